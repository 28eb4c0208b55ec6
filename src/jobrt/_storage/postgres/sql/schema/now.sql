-- The clock for all times: the time of the statement. now() would be the start of a caller's transaction.
select statement_timestamp() at time zone 'UTC'
