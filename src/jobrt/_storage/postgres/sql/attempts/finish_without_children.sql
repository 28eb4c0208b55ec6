-- A job whose children are all final or gone has nothing to wait for. It is due after the outcome's delay. A separate
-- statement, so that it sees the rows that the previous one has inserted.
update {schema}.job j set schedule_at = statement_timestamp() + make_interval(secs => :delay::double precision)
 where j.id = :parent::bigint and j.state = 'scheduled' and j.schedule_at = 'infinity'
   and not exists (select from {schema}.dependency d where d.parent = j.id)
returning j.queue, j.schedule_at <= statement_timestamp()
