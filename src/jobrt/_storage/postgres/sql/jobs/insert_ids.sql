-- Ids for rows that COPY will bring, and the time to stamp them with.
select array(select nextval('{literal}.job_id') from generate_series(1, :number::bigint)),
       statement_timestamp() at time zone 'UTC'
