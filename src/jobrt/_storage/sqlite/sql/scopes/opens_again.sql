-- Whether `open` opens a nursery again that was aborted.
SELECT EXISTS (SELECT 1 FROM jobrt_nursery WHERE job_id = :id AND name = :name AND state = 'aborted' AND NOT ending);
