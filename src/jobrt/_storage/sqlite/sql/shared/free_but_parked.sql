-- As free.sql, without the parked jobs that the claim has found by limited_parked.sql.
(lease IS NULL OR lease < 0 OR worker = :worker AND cancel_reason IS NULL
    AND id NOT IN (SELECT value FROM json_each(:parked)))
