-- The last column: this attempt has enqueued the member, or run it again. Attempts that have crashed since count as this
-- one, if the records of all of them are kept.
WITH own AS (SELECT attempt FROM jobrt_job WHERE id = :id),
last AS (
    SELECT ifnull(max(number), 0) AS number FROM jobrt_attempt
    WHERE job_id = :id AND "end" NOT IN ('crashed', 'interrupted', 'lease_lost', 'suspended')
),
crashed AS (
    SELECT count(DISTINCT a.number) AS many FROM jobrt_attempt AS a, own, last
    WHERE a.job_id = :id AND a."end" = 'crashed' AND a.number > last.number AND a.number < own.attempt
),
since AS (
    SELECT CASE WHEN crashed.many = own.attempt - 1 - last.number THEN last.number + 1 ELSE own.attempt END AS attempt
    FROM own, last, crashed
)
SELECT json_group_array(json_array(number, identity, child_id, name, code, kind = 'c', current)) FROM (
    SELECT m.number, m.identity, m.child_id, m.kind, ifnull(j.name, '') AS name, ifnull(j.state, 5) AS code,
        m.attempt >= (SELECT attempt FROM since) AS current
    FROM jobrt_member AS m LEFT JOIN jobrt_job AS j ON j.id = m.child_id
    WHERE m.job_id = :id AND m.nursery = :name AND m.identity > CAST(:after AS TEXT)
    ORDER BY m.identity LIMIT :limit
);
