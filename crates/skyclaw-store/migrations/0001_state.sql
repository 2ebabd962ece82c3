-- A body is the record as JSON, crc the CRC-32 of the body; the other columns are taken from the body.

-- How far in the log the rest of this file is. At most one row.
CREATE TABLE applied (
    one       INTEGER PRIMARY KEY CHECK (one = 1),
    log_index INTEGER NOT NULL,
    position  BLOB NOT NULL,
    counters  TEXT NOT NULL,
    crc       INTEGER NOT NULL
) STRICT;

CREATE TABLE hosts (
    id   TEXT PRIMARY KEY,
    body TEXT NOT NULL,
    crc  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- An index ends in the row's seq by itself, so each of these also gives the newest first.
CREATE TABLE jobs (
    seq       INTEGER PRIMARY KEY,
    id        TEXT NOT NULL UNIQUE,
    status    INTEGER NOT NULL,
    host      TEXT,
    submitter TEXT,
    body      TEXT NOT NULL,
    crc       INTEGER NOT NULL
) STRICT;
CREATE INDEX jobs_by_status ON jobs (status);
CREATE INDEX jobs_by_host ON jobs (host, status) WHERE host IS NOT NULL;
CREATE INDEX jobs_by_submitter ON jobs (submitter, status) WHERE submitter IS NOT NULL;

-- 'key=value' of each job's labels.
CREATE TABLE labels (
    label TEXT NOT NULL,
    seq   INTEGER NOT NULL,
    PRIMARY KEY (label, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE services (
    seq  INTEGER PRIMARY KEY,
    id   TEXT NOT NULL UNIQUE,
    body TEXT NOT NULL,
    crc  INTEGER NOT NULL
) STRICT;

-- id is a digest of caller, route and key.
CREATE TABLE replies (
    id         BLOB NOT NULL UNIQUE,
    expires_at INTEGER NOT NULL,
    body       TEXT NOT NULL,
    crc        INTEGER NOT NULL
) STRICT;
CREATE INDEX replies_by_expiry ON replies (expires_at);
