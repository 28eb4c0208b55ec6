-- The row of a completed job holds the values of its clean last attempt. They are cleared here, so they get a record.
-- A damaged row has no times or worker, or numbers that cannot grow.
with picked as (
    select c.id, c.lease, c.attempt, c.started_at, c.finished_at, c.worker,
           c.state = 'completed' and coalesce(c.lease < 0, false) as clean
      from {schema}.job c
     where c.state in ('completed', 'cancelled', 'discarded') and ({where})
       and (c.flags & 8 = 0 or exists (
            select from {schema}.member m join {schema}.job q on q.id = m.job_id
              join {schema}.nursery n on n.job_id = m.job_id and n.name = m.nursery
             where m.child_id = c.id and m.kind = 'c' and q.finished_at is null and n.state = 'open'))
     order by c.id limit :limit::bigint
       for update
),
recorded as (
    insert into {schema}.attempt (job_id, lease, number, "end", started_at, finished_at, worker)
    select p.id, -greatest(p.lease, -9223372036854775807), p.attempt, 'finished',
           coalesce(p.started_at, p.finished_at, statement_timestamp()),
           coalesce(p.finished_at, p.started_at, statement_timestamp()), coalesce(p.worker, '')
      from picked p where p.clean
        on conflict (job_id, lease) do nothing
),
reopened as (
    update {schema}.nursery n set state = 'open', sealed = false, retried = true, ending = false, deadline = null
      from picked p where n.job_id = p.id
),
rejoined as (
    update {schema}.member m
       set failed = false,
           attempt = case when m.job_id = any(array(select q.id from picked q)) then 0 else m.attempt end
      from picked p where m.child_id = p.id and m.kind = 'c'
    returning m.child_id, m.job_id, m.nursery
),
revived as (
    insert into {schema}.living (child_id, job_id, nursery)
    select m.child_id, m.job_id, m.nursery from rejoined m
        on conflict (child_id) do nothing
),
-- The next attempt runs members again that did not complete. One statement changes a row once: see `rejoined`.
asked_again as (
    update {schema}.member m set attempt = 0
      from picked p
     where m.job_id = p.id and m.attempt > 0
       and not (m.kind = 'c' and m.child_id = any(array(select q.id from picked q)))
),
unlimited as (
    delete from {schema}.deadline d using picked p
     where d.job_id = p.id
),
unparked as (
    update {schema}.waiting w set worker = null
      from picked p where w.job_id = p.id and w.worker is not null
),
cleared as (
    update {schema}.detail d set result = null
      from picked p where d.job_id = p.id and d.result is not null
),
changed as (
    update {schema}.job j
       set state = 'available', lease = null, schedule_at = statement_timestamp(), finished_at = null,
           cancel_reason = null, flags = (j.flags & ~160)::smallint, records = least(j.records, 2147483646) + p.clean::integer,
           max_attempts = case when j.attempt >= j.max_attempts then least(j.attempt, 2147483646) + 1 else j.max_attempts end
      from picked p where j.id = p.id
    returning j.id, j.queue, j.limit_key
)
select count(*), array_agg(distinct h.queue),
       array_agg(h.id) filter (where h.limit_key is not null
                               or h.queue = any(array(select q.name from {schema}.queue q where q.key is not null)))
  from changed h
