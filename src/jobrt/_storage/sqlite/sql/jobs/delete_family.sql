-- Jobs and their descendants.
WITH RECURSIVE family (id) AS (
    SELECT value FROM json_each(:ids)
    UNION
    SELECT child_id FROM family JOIN jobrt_member AS member ON member.job_id = family.id AND member.kind = 'c'
)
SELECT json_group_array(id) FROM family;
