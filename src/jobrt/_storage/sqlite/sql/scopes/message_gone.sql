DELETE FROM jobrt_message WHERE id = ?;
