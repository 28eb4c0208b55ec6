-- A nursery that was aborted, and whose members are over, is opened again: they may run again in this attempt.
with again as (
    update {schema}.member m set attempt = 0
     where m.job_id = :id::bigint and m.nursery = :name and m.attempt > 0
       and (select n.state = 'aborted' and not n.ending
              from {schema}.nursery n where n.job_id = :id::bigint and n.name = :name)
)
insert into {schema}.nursery as n (job_id, name, cancels, deadline)
values (:id::bigint, :name, :cancels::boolean, statement_timestamp() + make_interval(secs => :seconds::double precision))
    on conflict (job_id, name) do update
   set cancels = excluded.cancels,
       deadline = case when n.state = 'open' then coalesce(n.deadline, excluded.deadline)
                       when n.state = 'aborted' and not n.ending then excluded.deadline else n.deadline end,
       sealed = n.sealed and not (n.state = 'aborted' and not n.ending),
       retried = n.retried or (n.state = 'aborted' and not n.ending),
       state = case when n.state = 'aborted' and not n.ending then 'open' else n.state end
