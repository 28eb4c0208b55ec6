-- The members with some identities.
SELECT json_group_array(json_array(identity, child_id, kind <> 'c')) FROM jobrt_member
WHERE job_id = :id AND nursery = :name AND identity IN (SELECT value FROM json_each(:identities));
