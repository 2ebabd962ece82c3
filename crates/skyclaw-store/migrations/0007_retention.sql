-- When a job ended that may be forgotten some time, in milliseconds, and until when it asks to be kept; NULL where
-- there is neither. Those that ask for nothing are forgotten in the order they ended, the others when their time
-- is over: each index holds those it is for, and a job that has not ended is in neither.
ALTER TABLE jobs ADD COLUMN ended_at INTEGER;
ALTER TABLE jobs ADD COLUMN keep_until INTEGER;
UPDATE jobs SET ended_at = CAST(round(unixepoch(json_extract(body, '$.updated_at'), 'subsec') * 1000) AS INTEGER)
    WHERE status IN (2, 3, 4, 5);
-- The second column is NULL in all of its entries, and there so that to count them no row need be read.
CREATE INDEX jobs_by_end ON jobs (ended_at, keep_until) WHERE ended_at IS NOT NULL AND keep_until IS NULL;
CREATE INDEX jobs_by_keep ON jobs (keep_until) WHERE keep_until IS NOT NULL;
