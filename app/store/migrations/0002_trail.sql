-- The trail: a Merkle log (RFC 6962), one row an entry. The entry's number is its
-- link: the next one, and no other, can be inserted.
CREATE TABLE trail_leaves (
    idx        INTEGER NOT NULL PRIMARY KEY,               -- 0, 1, 2, ... without gaps
    at         INTEGER NOT NULL,                           -- unix ms: the time of its transaction
    kind       TEXT    NOT NULL,                           -- audit.Kind
    actor      BLOB    CHECK (length(actor) = 16),         -- pseudonyms, under the key of their account
    credential BLOB    CHECK (length(credential) = 16),
    subject    BLOB    CHECK (length(subject) = 16),
    commitment BLOB    NOT NULL CHECK (length(commitment) = 32), -- SHA-256(salt || payload)
    hashes     BLOB    NOT NULL                            -- of the subtrees that it completes, lowest first
        CHECK (length(hashes) % 32 = 0 AND (idx + 1) >> (length(hashes) / 32 - 1) & 1 AND (idx + 1) % (1 << (length(hashes) / 32 - 1)) = 0)
) STRICT;

CREATE INDEX trail_leaves_milestones ON trail_leaves (kind) WHERE kind IN ('trail.exported', 'trail.reopened');

-- What an entry says. It goes when its account is erased.
CREATE TABLE trail_payloads (
    idx     INTEGER NOT NULL PRIMARY KEY REFERENCES trail_leaves (idx),
    salt    BLOB    NOT NULL CHECK (length(salt) = 16),
    payload TEXT    NOT NULL,                              -- JSON, as it was hashed
    actor   TEXT    GENERATED ALWAYS AS (iif(json_valid(payload), payload ->> '$.actor', NULL)) VIRTUAL -- user id
) STRICT;

CREATE INDEX trail_payloads_actor ON trail_payloads (actor) WHERE actor IS NOT NULL;

-- The random key under which leaves name an account. It goes with the account.
CREATE TABLE trail_keys (
    user_id TEXT NOT NULL PRIMARY KEY,
    key     BLOB NOT NULL CHECK (length(key) = 32)
) STRICT, WITHOUT ROWID;

-- Signed checkpoints that were published, at most one a minute.
CREATE TABLE trail_checkpoints (
    size     INTEGER NOT NULL PRIMARY KEY, -- of the log then
    previous INTEGER NOT NULL,             -- size of the one before, 0 when there is none
    note     TEXT    NOT NULL              -- C2SP signed note
) STRICT;

-- INSERT OR REPLACE fires no delete trigger, so that the insert triggers must
-- stop it.
CREATE TRIGGER trail_leaves_insert BEFORE INSERT ON trail_leaves
WHEN NEW.idx IS NOT (SELECT coalesce(max(idx) + 1, 0) FROM trail_leaves)
BEGIN
    SELECT RAISE(ABORT, 'trail: not the next entry');
END;

CREATE TRIGGER trail_leaves_update BEFORE UPDATE ON trail_leaves
BEGIN
    SELECT RAISE(ABORT, 'trail: an entry is never changed');
END;

CREATE TRIGGER trail_leaves_delete BEFORE DELETE ON trail_leaves
BEGIN
    SELECT RAISE(ABORT, 'trail: an entry is never removed');
END;

CREATE TRIGGER trail_payloads_insert BEFORE INSERT ON trail_payloads
WHEN NEW.idx IS NOT (SELECT max(idx) FROM trail_leaves) OR EXISTS (SELECT 1 FROM trail_payloads WHERE idx = NEW.idx)
BEGIN
    SELECT RAISE(ABORT, 'trail: not the payload of the newest entry');
END;

CREATE TRIGGER trail_payloads_update BEFORE UPDATE ON trail_payloads
BEGIN
    SELECT RAISE(ABORT, 'trail: a payload is never changed');
END;

CREATE TRIGGER trail_payloads_delete BEFORE DELETE ON trail_payloads
WHEN OLD.actor IS NULL OR EXISTS (SELECT 1 FROM trail_keys WHERE user_id = OLD.actor)
BEGIN
    SELECT RAISE(ABORT, 'trail: a payload is only removed with its account');
END;

CREATE TRIGGER trail_keys_insert BEFORE INSERT ON trail_keys
WHEN EXISTS (SELECT 1 FROM trail_keys WHERE user_id = NEW.user_id)
BEGIN
    SELECT RAISE(ABORT, 'trail: the account has its key');
END;

CREATE TRIGGER trail_keys_update BEFORE UPDATE ON trail_keys
BEGIN
    SELECT RAISE(ABORT, 'trail: a key is never changed');
END;

CREATE TRIGGER trail_keys_delete BEFORE DELETE ON trail_keys
WHEN EXISTS (SELECT 1 FROM users WHERE id = OLD.user_id)
BEGIN
    SELECT RAISE(ABORT, 'trail: a key is only removed with its account');
END;

CREATE TRIGGER trail_checkpoints_insert BEFORE INSERT ON trail_checkpoints
WHEN NEW.previous IS NOT (SELECT coalesce(max(size), 0) FROM trail_checkpoints)
    OR NEW.size <= NEW.previous OR NEW.size > (SELECT coalesce(max(idx) + 1, 0) FROM trail_leaves)
BEGIN
    SELECT RAISE(ABORT, 'trail: not the next checkpoint');
END;

CREATE TRIGGER trail_checkpoints_update BEFORE UPDATE ON trail_checkpoints
BEGIN
    SELECT RAISE(ABORT, 'trail: a checkpoint is never changed');
END;

CREATE TRIGGER trail_checkpoints_delete BEFORE DELETE ON trail_checkpoints
BEGIN
    SELECT RAISE(ABORT, 'trail: a checkpoint is never removed');
END;
