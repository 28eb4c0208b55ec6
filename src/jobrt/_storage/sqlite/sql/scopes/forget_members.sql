DELETE FROM jobrt_member WHERE child_id IN (SELECT value FROM json_each(:ids)) AND kind <> 'd';
