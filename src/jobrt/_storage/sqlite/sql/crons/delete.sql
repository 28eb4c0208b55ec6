DELETE FROM jobrt_cron WHERE name = ?;
