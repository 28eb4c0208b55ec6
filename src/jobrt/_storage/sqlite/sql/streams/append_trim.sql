-- Delete the entries before the first one that stays. They are read from the oldest, so this ends soon. The newest one
-- always stays.
DELETE FROM jobrt_entry WHERE job_id = :id AND number < coalesce((
    SELECT number FROM jobrt_entry
    WHERE job_id = :id AND number > :last - :entries_kept AND start >= :bytes - :bytes_kept
    ORDER BY number LIMIT 1
), :last);
