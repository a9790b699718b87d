ALTER TABLE users ADD COLUMN disabled_at INTEGER; -- unix ms; null: may sign in

ALTER TABLE users ADD COLUMN suggested_at INTEGER; -- unix ms: when a second passkey was last suggested

ALTER TABLE credentials ADD COLUMN effective_at INTEGER; -- unix ms: of a recovery, from when it opens the account; null: it does

CREATE UNIQUE INDEX credentials_recovery ON credentials (user_id) WHERE effective_at IS NOT NULL;

-- The link by which a person who has lost every passkey asks for their account: one an account.
CREATE TABLE recoveries (
    user_id    TEXT    NOT NULL PRIMARY KEY REFERENCES users (id), -- whose account it gives back
    token_hash BLOB    NOT NULL UNIQUE,                            -- account.TokenHash of the token
    created_at INTEGER NOT NULL,                                   -- unix ms
    expires_at INTEGER NOT NULL,                                   -- unix ms
    used_at    INTEGER,                                            -- unix ms; null: not yet
    network    TEXT    NOT NULL DEFAULT '',                        -- who used it: 203.0.113.0/24
    browser    TEXT    NOT NULL DEFAULT '',                        -- Firefox
    system     TEXT    NOT NULL DEFAULT ''                         -- Linux
) STRICT, WITHOUT ROWID;
