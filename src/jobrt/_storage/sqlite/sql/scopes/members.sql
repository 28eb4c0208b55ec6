SELECT json_group_array(json_array(number, identity, child_id, name, code, kind = 'c', current)) FROM (
    SELECT m.number, m.identity, m.child_id, m.kind, ifnull(j.name, '') AS name, ifnull(j.state, 5) AS code,
        m.attempt = (SELECT attempt FROM jobrt_job WHERE id = :id) AS current
    FROM jobrt_member AS m LEFT JOIN jobrt_job AS j ON j.id = m.child_id
    WHERE m.job_id = :id AND m.nursery = :name AND m.number > :after
    ORDER BY m.number LIMIT :limit
);
