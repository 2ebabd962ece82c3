-- A body is compressed with Zstandard, and crc is the CRC-32 of that; one of before is the text that it was.
CREATE TABLE compressed (
    last_index INTEGER NOT NULL,
    last_n     INTEGER NOT NULL,
    count      INTEGER NOT NULL,
    total      INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    body       ANY NOT NULL,
    crc        INTEGER NOT NULL,
    PRIMARY KEY (last_index, last_n)
) STRICT, WITHOUT ROWID;
INSERT INTO compressed SELECT * FROM events;
DROP TABLE events;
ALTER TABLE compressed RENAME TO events;
