-- What submits jobs at the times that it names. This is part of what a snapshot brings back.
CREATE TABLE schedules (
    id   TEXT PRIMARY KEY,
    body TEXT NOT NULL,
    crc  INTEGER NOT NULL
) STRICT;
