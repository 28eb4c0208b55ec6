-- End members: those that wait are cancelled, those that a worker holds are told. The trigger `settle_ended` gets their
-- ids, and notes the ends of all in one go.
with picked as (
    select c.id, c.lease, c.state, l.job_id as parent
      from {schema}.job c
      join {schema}.living l on l.child_id = c.id
      join {schema}.nursery n on n.job_id = l.job_id and n.name = l.nursery and n.ending
     where c.id = any(:ids::bigint[]) and c.finished_at is null and c.state <> 'closing' and c.flags & 32 = 0
     order by c.id desc
       for update of c skip locked
)
update {schema}.job j
   set state = case when p.held then j.state else 'cancelled' end,
       finished_at = case when not p.held then statement_timestamp() end,
       lease = case when p.held then j.lease end,
       flags = (j.flags | 32)::smallint,
       cancel_reason = coalesce(j.cancel_reason, format('its parent %s was ended', p.parent))
  from (select k.id, k.parent, k.state = 'executing' or coalesce(k.lease > 0, false) as held from picked k) p
 where j.id = p.id
returning p.held,
          case when not p.held and coalesce(current_setting('jobrt.ended', true), '') = ''
               then set_config('jobrt.ended', :ids::text, true) end as batch_ids
