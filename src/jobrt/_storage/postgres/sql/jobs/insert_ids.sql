-- Ids for the rows of a COPY, and the time for their timestamps.
select array(select nextval('{literal}.job_id') from generate_series(1, :number::bigint)),
       statement_timestamp() at time zone 'UTC'
