-- Running jobs of one queue whose key is of another setting, or missing.
SELECT json_group_array(json_array(id, schedule_at, name, {small_texts})) FROM jobrt_job
    INDEXED BY jobrt_job_executing
WHERE state = 3 AND queue = :queue AND (limit_key IS NULL OR limit_key < :low OR limit_key >= :high);
