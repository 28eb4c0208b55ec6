-- Those of these jobs that are final. A repeated outcome may be of one that is closing, or has been run again since.
SELECT json_group_array(id) FROM jobrt_job WHERE id IN (SELECT value FROM json_each(:ids)) AND state BETWEEN 4 AND 6;
