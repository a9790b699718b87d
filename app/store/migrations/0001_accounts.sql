CREATE TABLE users (
    id         TEXT    NOT NULL PRIMARY KEY,          -- account.UserID(handle): 32 hex digits
    handle     BLOB    NOT NULL UNIQUE,               -- WebAuthn user handle, never shown
    name       TEXT    NOT NULL UNIQUE COLLATE NOCASE,-- cedar-otter-42
    groups     TEXT    NOT NULL,                      -- JSON array of names, sorted, without duplicates
    created_at INTEGER NOT NULL                       -- unix ms: its first passkey
) STRICT, WITHOUT ROWID;

CREATE TABLE credentials (
    ref                TEXT    NOT NULL PRIMARY KEY CHECK (length(ref) = 32), -- account.CredentialRef(id): what all else calls it
    id                 BLOB    NOT NULL,                       -- credential id: here and nowhere else, so without an index
    user_id            TEXT    NOT NULL REFERENCES users (id), -- whose passkey it is
    user_handle        BLOB    NOT NULL,                       -- WebAuthn user handle that it was made for
    public_key         BLOB    NOT NULL,                       -- COSE_Key
    sign_count         INTEGER NOT NULL CHECK (sign_count BETWEEN 0 AND 4294967295), -- the highest ever seen
    flags              INTEGER NOT NULL CHECK (flags BETWEEN 0 AND 255), -- authenticator data flags, last ceremony
    aaguid             BLOB    NOT NULL,                       -- model of the authenticator
    transports         TEXT    NOT NULL,                       -- JSON array, as the browser gave it
    attestation_type   TEXT    NOT NULL,                       -- none, self, basic, ...
    attestation_format TEXT    NOT NULL,                       -- none, packed, tpm, ...
    device_type        TEXT    NOT NULL GENERATED ALWAYS AS (iif(flags & 8, 'multi', 'single')) VIRTUAL, -- synced or device-bound
    backup_eligible    INTEGER NOT NULL GENERATED ALWAYS AS (flags >> 3 & 1) VIRTUAL, -- may be synced
    backup_state       INTEGER NOT NULL GENERATED ALWAYS AS (flags >> 4 & 1) VIRTUAL, -- is synced at present
    name               TEXT    NOT NULL,                       -- shown to its owner
    created_at         INTEGER NOT NULL,                       -- unix ms
    last_used_at       INTEGER NOT NULL                        -- unix ms
) STRICT, WITHOUT ROWID;

CREATE INDEX credentials_user ON credentials (user_id, created_at, ref);

CREATE TABLE sessions (
    id            TEXT    NOT NULL PRIMARY KEY,                  -- 128 random bits or more, base64url
    user_id       TEXT    NOT NULL REFERENCES users (id),        -- who is signed in
    credential    TEXT    NOT NULL REFERENCES credentials (ref), -- the passkey that opened it
    created_at    INTEGER NOT NULL,                              -- unix ms
    seen_at       INTEGER NOT NULL,                              -- unix ms: last activity, exact to a minute
    expires_at    INTEGER NOT NULL,                              -- unix ms: the hard cap, never moved
    auth_time     INTEGER NOT NULL,                              -- unix ms: when the passkey was last used in it
    user_verified INTEGER NOT NULL,                              -- 1: the authenticator verified the user
    network       TEXT    NOT NULL,                              -- 203.0.113.0/24, or empty
    browser       TEXT    NOT NULL,                              -- Firefox, or empty
    system        TEXT    NOT NULL                               -- Linux, or empty
) STRICT, WITHOUT ROWID;

CREATE INDEX sessions_user ON sessions (user_id);

CREATE INDEX sessions_credential ON sessions (credential);

CREATE INDEX sessions_expires ON sessions (expires_at);

CREATE INDEX sessions_seen ON sessions (seen_at);

CREATE TABLE challenges (
    challenge  BLOB    NOT NULL PRIMARY KEY, -- consumed: being here makes it used
    expires_at INTEGER NOT NULL              -- unix ms: after it the row is no longer needed
) STRICT, WITHOUT ROWID;

CREATE INDEX challenges_expires ON challenges (expires_at);

CREATE TABLE invitations (
    token_hash BLOB    NOT NULL PRIMARY KEY, -- account.TokenHash of the token
    groups     TEXT    NOT NULL,             -- JSON array: what its bearer becomes a member of
    created_at INTEGER NOT NULL,             -- unix ms
    expires_at INTEGER,                      -- unix ms; null: until it is used
    used_at    INTEGER,                      -- unix ms; null: not yet
    first      INTEGER NOT NULL DEFAULT 0    -- 1: the one that makes the first owner
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX invitations_first ON invitations (first) WHERE first = 1;
