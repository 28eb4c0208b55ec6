-- Rows of [number, start, at, kind, key, value]. One statement, because each one is a switch between threads.
INSERT INTO jobrt_entry (job_id, number, start, at, attempt, kind, "key", value)
SELECT :id, json_extract(row.value, '$[0]'), json_extract(row.value, '$[1]'), json_extract(row.value, '$[2]'), :attempt,
    json_extract(row.value, '$[3]'), json_extract(row.value, '$[4]'), json_extract(row.value, '$[5]')
FROM json_each(:entries) AS row;
