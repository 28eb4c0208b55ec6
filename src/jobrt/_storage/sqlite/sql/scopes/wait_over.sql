-- Whether a wait is over, and when it ends at the latest.
SELECT EXISTS (
    SELECT 1 FROM jobrt_nursery
    WHERE job_id = :id AND name IN (SELECT value FROM json_each(:bodies)) AND state <> 'open')
OR CASE :kind
    WHEN 'children' THEN NOT EXISTS (
        SELECT 1 FROM jobrt_member WHERE job_id = :id AND nursery = :name AND alive = 1)
    WHEN 'child' THEN NOT EXISTS (
        SELECT 1 FROM jobrt_job WHERE id = CAST(:name AS INTEGER) AND state NOT BETWEEN 4 AND 6)
    WHEN 'message' THEN ifnull(until <= :now, 0) OR EXISTS (
        SELECT 1 FROM jobrt_message WHERE job_id = :id AND name = :name AND received = 0)
    WHEN 'sleep' THEN ifnull(until <= :now, 1)
    ELSE 1
END, until
FROM (SELECT 1) LEFT JOIN jobrt_answer ON job_id = :id AND kind = :kind AND name = :name AND number = :number;
