-- What is told of changes, oldest first, many in a row: a JSON list of those up to (last_index, last_n). count
-- is how many, total how many there ever were up to here, at when the last one was. A row without any is the
-- first: all that came up to its place is not kept. This is no part of what a snapshot brings back.
CREATE TABLE events (
    last_index INTEGER NOT NULL,
    last_n     INTEGER NOT NULL,
    count      INTEGER NOT NULL,
    total      INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    body       TEXT NOT NULL,
    crc        INTEGER NOT NULL,
    PRIMARY KEY (last_index, last_n)
) STRICT, WITHOUT ROWID;
-- Nothing was kept of what happened before there was this table.
INSERT INTO events SELECT log_index, 4294967295, 0, 0, 0, '', 0 FROM applied;
