-- End late jobs: a held one is told, any other is discarded; one that is closing on its way to a retry, when its children
-- are over. Rows that are done with are deleted.
with picked as (
    select j.id, j.attempt, j.worker, j.lease, j.started_at, o.late,
           j.state = 'executing' or coalesce(j.lease > 0, false) as held,
           j.finished_at is null and j.state <> 'closing' and (o.late or j.started_at is null) as ends,
           j.state = 'closing' and o.late and exists (
               select from {schema}.waiting w where w.job_id = j.id and w.kind = 'close' and w.name = 'retryable') as closes
      from (select d.job_id as id, coalesce(d.deadline_at <= statement_timestamp(), false) as late
              from {schema}.deadline d
             where d.job_id = any(:ids::bigint[])
               and (d.deadline_at <= statement_timestamp() or d.expires_at <= statement_timestamp())) o
      join {schema}.job j on j.id = o.id
     order by j.id desc
       for update of j skip locked
),
done as (
    delete from {schema}.deadline d
     using picked p
     where d.job_id = p.id and (p.late or d.deadline_at is null)
),
passed as (
    update {schema}.deadline d set expires_at = null
      from picked p where d.job_id = p.id and not p.late and d.deadline_at is not null
),
ended as (
    update {schema}.job j
       set state = case when p.held or p.closes then j.state else 'discarded' end,
           finished_at = case when not (p.held or p.closes) then statement_timestamp() end,
           lease = case when p.held or p.closes then j.lease end,
           records = least(j.records, 2147483646) + (not p.held)::integer,
           flags = (j.flags | case when p.held then 128 else 0 end)::smallint,
           cancel_reason = case when p.held then coalesce(j.cancel_reason, 'its deadline has passed') else j.cancel_reason end
      from picked p
     where j.id = p.id and (p.ends and (p.late or not p.held) or p.closes)
    returning j.id, p.held, p.late, p.attempt, p.started_at, p.worker
),
decided as (
    update {schema}.waiting w set name = 'discarded'
      from picked p where p.closes and w.job_id = p.id and w.kind = 'close'
),
recorded as (
    insert into {schema}.attempt (job_id, lease, number, "end", started_at, finished_at, worker, message)
    select e.id, 0, e.attempt, case when e.late then 'timed_out' else 'expired' end,
           coalesce(e.started_at, statement_timestamp()), statement_timestamp(), coalesce(e.worker, ''),
           case when e.late then 'its deadline has passed' else 'it had not started before its expiry' end
      from ended e where not e.held
        on conflict (job_id, lease) do nothing
)
select (select count(*) from picked), (select count(*) from ended e where e.held)
