-- The index of children needs its own condition in the query, here and elsewhere: SQLite does not see that a 'c' is no 'd'.
UPDATE jobrt_member SET alive = 0, failed = child_id IN (SELECT value FROM json_each(:failed))
WHERE child_id IN (SELECT value FROM json_each(:ids)) AND kind <> 'd' AND kind = 'c';
