-- The newest job with a digest and a state, with one probe of the index on digests. It runs once per state that
-- counts, so a thousand finished duplicates cost no more than one. The caller checks the age. The bounds distinguish
-- due `scheduled` jobs (which count as available) from the others, and :started executing jobs from claimed ones.
-- With a `+`, a value has no declared type: a caller's connection may convert those that have one.
SELECT +id, +created_at FROM jobrt_job
WHERE digest = :digest AND state = :state AND schedule_at BETWEEN :from_at AND :to_at
    AND (state <> 3 OR (started_at IS NOT NULL) = :started)
ORDER BY id DESC LIMIT 1;
