-- What the cluster went back to, oldest first. This is no part of what a snapshot brings back.
CREATE TABLE restores (
    number INTEGER PRIMARY KEY,
    body   TEXT NOT NULL,
    crc    INTEGER NOT NULL
) STRICT;
