-- Park or suspend jobs whose rows are locked. Whether a wait is over already is decided here. A request to cancel takes
-- effect now, unless the job is parked: then its worker gets it. A job that is parked already does not use another attempt.
with given as (
    select o.*, a.until,
           exists (
               select from {schema}.nursery n
                where n.job_id = o.id and n.name in (select json_array_elements_text(o.bodies::json)) and n.state <> 'open'
           ) or case o.kind
               when 'children' then not exists (
                   select from {schema}.living l where l.job_id = o.id and l.nursery = o.name)
               when 'child' then not exists (
                   select from {schema}.job c where c.id = o.name::bigint and c.finished_at is null)
               when 'message' then coalesce(a.until <= statement_timestamp(), false) or exists (
                   select from {schema}.message m where m.job_id = o.id and m.name = o.name and not m.received)
               when 'sleep' then coalesce(a.until <= statement_timestamp(), true)
               else true
           end as over
      from unnest(:ids::bigint[], :leases::bigint[], :parks::boolean[], :kinds::text[], :names::text[],
                  :numbers::bigint[], :began::bigint[], :bodies::text[])
           o(id, lease, parks, kind, name, number, began, bodies)
      left join {schema}.answer a
        on a.job_id = o.id and a.kind = o.kind and a.name = o.name and a.number = o.number
),
changed as (
    update {schema}.job j
       set state = (case when not g.parks and j.cancel_reason is not null
                         then case when j.flags & 128 <> 0 then 'discarded' else 'cancelled' end
                         when g.over then 'available' else 'suspended' end)::{schema}.job_state,
           finished_at = case when not g.parks and j.cancel_reason is not null then statement_timestamp() end,
           lease = case when g.parks then j.lease else -j.lease end,
           attempt = greatest(j.attempt - (j.state = 'executing')::integer, 0),
           started_at = least(coalesce(timestamptz 'epoch' + g.began * interval '1 microsecond', j.started_at),
                              statement_timestamp())
      from given g
     where j.id = g.id and j.lease = g.lease and g.lease > 0
    returning j.id, g.lease, j.queue, j.state, j.worker, g.parks, g.kind, g.name, g.number, g.until
),
noted as (
    insert into {schema}.waiting as w (job_id, number, until, kind, name, worker)
    select c.id, c.number, c.until, c.kind, c.name, case when c.parks then c.worker end
      from changed c where c.state in ('suspended', 'available')
        on conflict (job_id) do update
       set number = excluded.number, until = excluded.until, kind = excluded.kind, name = excluded.name,
           worker = excluded.worker,
           since = case when w.kind = excluded.kind and w.name = excluded.name and w.number = excluded.number
                        then w.since else excluded.since end
)
select c.id, c.lease, c.queue, c.state = 'available', c.until is not null from changed c
