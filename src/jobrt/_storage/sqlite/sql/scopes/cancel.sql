-- End those that nobody holds.
UPDATE jobrt_job SET extra = extra | 32, cancel_reason = coalesce(cancel_reason, :reason), state = 5, lease = NULL,
    finished_at = :now
WHERE id IN (SELECT value FROM json_each(:ids)) AND (state < 3 OR state = 7) AND ifnull(lease < 0, 1)
RETURNING id;
