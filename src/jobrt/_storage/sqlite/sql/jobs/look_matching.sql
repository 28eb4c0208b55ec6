-- Of some jobs, those that match a filter. NOT INDEXED: they are read by their ids, whatever else the filter allows.
SELECT json_group_array(id) FROM jobrt_job NOT INDEXED WHERE id IN (SELECT value FROM json_each(?)) AND ({where});
