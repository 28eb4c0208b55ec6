-- The time, and the priorities that have waiting jobs in a queue.
with recursive {levels_from}
select statement_timestamp() at time zone 'UTC', l.priority from level l
