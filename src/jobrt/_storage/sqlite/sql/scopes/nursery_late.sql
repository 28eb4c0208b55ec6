-- The deadline of a nursery has passed. It matters while its body runs or members are alive.
UPDATE jobrt_nursery SET deadline = NULL, ending = :alive,
    state = CASE WHEN :alive OR NOT sealed THEN 'too_slow' ELSE state END
WHERE job_id = :id AND name = :name
RETURNING state = 'too_slow';
