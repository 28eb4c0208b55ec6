UPDATE jobrt_member SET alive = 0, failed = child_id IN (SELECT value FROM json_each(:failed)) WHERE child_id IN (SELECT value FROM json_each(:ids)) AND kind = 'c';
