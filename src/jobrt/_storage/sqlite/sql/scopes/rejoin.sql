UPDATE jobrt_member SET alive = 1, failed = 0
WHERE child_id IN (SELECT value FROM json_each(:ids)) AND kind <> 'd' AND kind = 'c';
