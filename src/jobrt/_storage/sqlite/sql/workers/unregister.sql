DELETE FROM jobrt_worker WHERE id = ?;
