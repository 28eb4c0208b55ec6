-- The chosen jobs, in the order of the ids; values as in exchange_page.sql.
SELECT json_group_array({claim_row})
FROM (
    SELECT {claim_columns} FROM json_each(:ids) AS chosen JOIN jobrt_job ON jobrt_job.id = chosen.value
    ORDER BY chosen.key
);
