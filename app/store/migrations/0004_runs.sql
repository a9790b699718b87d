-- The last run of each agent for each person.
CREATE TABLE runs (
    id         TEXT    NOT NULL PRIMARY KEY,           -- 128 random bits or more, base32
    user_id    TEXT    NOT NULL REFERENCES users (id), -- whom it works for
    agent      TEXT    NOT NULL,                       -- its name
    prompt     TEXT    NOT NULL,                       -- what the person asked for, or empty
    status     TEXT    NOT NULL,                       -- running, done, failed, interrupted, cut
    sentence   TEXT    NOT NULL,                       -- what is said of how it ended
    started_at INTEGER NOT NULL,                       -- unix ms
    beat_at    INTEGER NOT NULL,                       -- unix ms: when its server last said that it goes on
    ended_at   INTEGER,                                -- unix ms; null: it runs
    stop_at    INTEGER                                 -- unix ms: when someone asked to stop it
) STRICT;

CREATE UNIQUE INDEX runs_place ON runs (user_id, agent);

CREATE INDEX runs_running ON runs (beat_at) WHERE status = 'running';

-- What a run said, for those who look at it.
CREATE TABLE run_events (
    run_id TEXT    NOT NULL REFERENCES runs (id),
    idx    INTEGER NOT NULL, -- 0, 1, 2, ...
    kind   TEXT    NOT NULL, -- text, status, data, view, approval
    text   TEXT    NOT NULL,
    data   TEXT,             -- JSON, of data
    html   TEXT,             -- of a view
    PRIMARY KEY (run_id, idx)
) STRICT, WITHOUT ROWID;

-- What an agent keeps of a person between runs.
CREATE TABLE memory (
    user_id TEXT NOT NULL REFERENCES users (id),
    agent   TEXT NOT NULL,
    key     TEXT NOT NULL,
    value   BLOB NOT NULL,
    PRIMARY KEY (user_id, agent, key)
) STRICT, WITHOUT ROWID;
