-- Of some jobs, those with an ancestor whose nursery is being ended.
WITH RECURSIVE above (id, current, ending) AS (
    SELECT value, value, 0 FROM json_each(:ids)
    UNION ALL
    SELECT above.id, m.job_id, n.ending FROM above
    JOIN jobrt_member AS m ON m.child_id = above.current AND m.kind <> 'd' AND m.kind = 'c'
    JOIN jobrt_nursery AS n ON n.job_id = m.job_id AND n.name = m.nursery
    WHERE NOT above.ending
)
SELECT json_group_array(DISTINCT id) FROM above WHERE ending = 1;
