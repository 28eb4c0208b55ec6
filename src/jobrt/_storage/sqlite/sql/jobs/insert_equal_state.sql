-- The values that decide whether the stored duplicate may be changed. `insert_equal` explains the `+`.
SELECT +state, +schedule_at, +started_at, +queue FROM jobrt_job WHERE id = ?;
