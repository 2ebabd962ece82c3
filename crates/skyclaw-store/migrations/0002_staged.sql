-- Parts of a snapshot the cluster may go back to, all of one restore; crc is the CRC-32 of the bytes.
CREATE TABLE staged (
    part    INTEGER PRIMARY KEY,
    restore TEXT NOT NULL,
    bytes   BLOB NOT NULL,
    crc     INTEGER NOT NULL
) STRICT;
