-- A nursery that was aborted, and whose members are over, is opened again.
insert into {schema}.nursery as n (job_id, name, cancels, deadline)
values (:id::bigint, :name, :cancels::boolean, statement_timestamp() + make_interval(secs => :seconds::double precision))
    on conflict (job_id, name) do update
   set cancels = excluded.cancels,
       deadline = case when n.state = 'open' then coalesce(n.deadline, excluded.deadline)
                       when n.state = 'aborted' and not n.ending then excluded.deadline else n.deadline end,
       sealed = n.sealed and not (n.state = 'aborted' and not n.ending),
       retried = n.retried or (n.state = 'aborted' and not n.ending),
       state = case when n.state = 'aborted' and not n.ending then 'open' else n.state end
