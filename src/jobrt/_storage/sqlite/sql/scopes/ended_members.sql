-- The nurseries of jobs that have ended: [child, parent, nursery, whether it failed].
SELECT json_group_array(json_array(m.child_id, m.job_id, m.nursery,
    n.state = 'open' AND n.cancels AND ifnull(j.state = 6 OR j.state = 5 AND j.id NOT IN (SELECT value FROM json_each(:own)), 0)))
FROM jobrt_member AS m INDEXED BY jobrt_member_child
LEFT JOIN jobrt_nursery AS n ON n.job_id = m.job_id AND n.name = m.nursery
LEFT JOIN jobrt_job AS j ON j.id = m.child_id
WHERE m.child_id IN (SELECT value FROM json_each(:ids)) AND m.kind <> 'd' AND m.kind = 'c' AND m.alive = 1;
