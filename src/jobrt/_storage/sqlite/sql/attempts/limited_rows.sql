-- The chosen jobs, in the order of the ids; columns as in exchange_page.sql.
SELECT json_group_array(json_array(
    id, name, priority, attempt, max_attempts, max(min(timeout, 1e18), -1e18), {small_texts}, created_at, schedule_at,
    extra, started_at, version
))
FROM (
    SELECT jobrt_job.* FROM json_each(:ids) AS chosen JOIN jobrt_job ON jobrt_job.id = chosen.value
    ORDER BY chosen.key
);
