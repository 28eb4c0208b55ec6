-- Waiting jobs only. A new due time decides between scheduled and available; a job that waits for a retry stays
-- retryable.
with picked as (
    select c.id from {schema}.job c
     where c.state in ('scheduled', 'available', 'retryable') and ({where})
     order by c.id
       for update
),
changed as (
    update {schema}.job j set {sets}
     where j.id = any(array(select p.id from picked p))
    returning j.id, j.queue, j.limit_key, j.schedule_at <= statement_timestamp() as due
)
select count(*), array_agg(distinct h.queue) filter (where h.due),
       array_agg(h.id) filter (where h.limit_key is not null
                               or h.queue = any(array(select q.name from {schema}.queue q where q.key is not null)))
  from changed h
