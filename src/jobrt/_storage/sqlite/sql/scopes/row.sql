SELECT state, reason, sealed, retried,
    EXISTS (SELECT 1 FROM jobrt_member AS m WHERE m.job_id = :id AND m.nursery = :name AND m.alive = 1),
    EXISTS (SELECT 1 FROM jobrt_member AS m WHERE m.job_id = :id AND m.nursery = :name)
FROM jobrt_nursery WHERE job_id = :id AND name = :name;
