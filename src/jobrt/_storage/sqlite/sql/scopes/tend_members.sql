-- Living members of nurseries that are being ended. Those that were told, and those that are closing, are waited for.
SELECT json_group_array(child_id) FROM (
    SELECT m.child_id FROM jobrt_nursery AS n INDEXED BY jobrt_nursery_ending
    CROSS JOIN jobrt_member AS m ON m.job_id = n.job_id AND m.nursery = n.name AND m.alive = 1
    JOIN jobrt_job AS j ON j.id = m.child_id
    WHERE n.ending = 1 AND (j.state < 4 OR j.state = 7) AND j.extra & 32 = 0
        AND m.child_id NOT IN (SELECT value FROM json_each(:but))
    LIMIT :limit
);
