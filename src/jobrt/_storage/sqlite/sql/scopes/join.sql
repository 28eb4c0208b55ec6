-- Note jobs ([id, kind, identity], ...) as members, in order.
INSERT INTO jobrt_member (job_id, child_id, alive, kind, nursery, identity, attempt)
SELECT :id, json_extract(value, '$[0]'), json_extract(value, '$[1]') = 'c', json_extract(value, '$[1]'), :name,
    json_extract(value, '$[2]'), (SELECT attempt FROM jobrt_job WHERE id = :id)
FROM json_each(:children) ORDER BY key;
