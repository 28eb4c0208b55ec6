-- The clock by which everything is judged: the time of the statement, as now() would be that of a caller's transaction.
select statement_timestamp() at time zone 'UTC'
