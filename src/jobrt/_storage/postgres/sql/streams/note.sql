-- An action of an operator, for each of these jobs that there is. The row locks hold off those who delete the jobs, so no
-- entry is left behind; a stream's own row orders its entries. A claim skips locked rows, and nothing else would wake the
-- queues again. So those of due jobs are returned, to be woken after the commit.
with noted as materialized (
    select j.id, j.attempt, j.flags, j.queue,
           j.state in ('scheduled', 'available', 'retryable') and j.schedule_at <= statement_timestamp() as due
      from {schema}.job j where j.id = any(:ids::bigint[]) order by j.id
       for key share of j
),
heads as (
    insert into {schema}.stream as s (job_id, lease, batch, last, bytes)
    select n.id, 0, 0, 1, octet_length(:value::text) from noted n order by n.id
        on conflict (job_id) do update set last = s.last + 1, bytes = s.bytes + excluded.bytes
    returning job_id, last, bytes
),
stored as (
    insert into {schema}.entry (job_id, number, start, at, attempt, kind, value)
    select n.id, s.last, s.bytes - octet_length(:value::text), statement_timestamp(), n.attempt, 'action', :value::text
      from heads s join noted n on n.id = s.job_id
),
trimmed as (
    delete from {schema}.entry e using heads s
     where e.job_id = s.job_id
       and e.number < coalesce((select k.number from {schema}.entry k
                                 where k.job_id = s.job_id and k.number > s.last - :entries_kept::bigint
                                   and k.start >= s.bytes - :bytes_kept::bigint
                                 order by k.number limit 1), s.last)
),
told as (
    select pg_notify({channel}, 's:' || n.id) from noted n where n.flags & 1024 <> 0
)
select distinct n.queue from noted n where n.due and (select count(*) from told) >= 0
