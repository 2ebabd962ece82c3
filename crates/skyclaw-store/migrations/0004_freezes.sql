-- What is frozen, and the newest of what was, oldest first. This is no part of what a snapshot brings back.
CREATE TABLE freezes (
    number INTEGER PRIMARY KEY,
    body   TEXT NOT NULL,
    crc    INTEGER NOT NULL
) STRICT;
