UPDATE jobrt_message SET received = 1, value = 'null' WHERE id = ?;
