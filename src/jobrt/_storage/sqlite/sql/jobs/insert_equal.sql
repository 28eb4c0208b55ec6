-- The stored jobs with these digests that may be duplicates: of each digest the newest ones in each lane, :most of them.
-- A lane is a state that counts, with the due times that distinguish `scheduled` jobs that are due (they count as
-- available) from the others. Most digests of a batch are not stored, so that is asked first. After that each lane is
-- one probe of the index, and a thousand finished duplicates cost no more than one. The caller checks the age.
WITH lane (code, state, from_at, to_at) AS MATERIALIZED (
    SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
        json_extract(value, '$[3]')
    FROM json_each(:lanes)
)
SELECT json_group_array(json_array(job.id, job.digest, lane.state, job.created_at))
FROM json_each(:digests) given CROSS JOIN lane CROSS JOIN jobrt_job job
WHERE EXISTS (SELECT 1 FROM jobrt_job any_state WHERE any_state.digest = given.value)
    AND job.id IN (
        SELECT id FROM jobrt_job
        WHERE digest = given.value AND state = lane.code AND schedule_at BETWEEN lane.from_at AND lane.to_at
            AND (state <> 3 OR (started_at IS NOT NULL) = (lane.state = 'executing'))
        ORDER BY id DESC LIMIT :most
    );
