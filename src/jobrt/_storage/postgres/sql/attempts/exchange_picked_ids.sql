-- Jobs that a look has found, as far as they still wait. The state is compared so that no partial index can be used.
picked as (
    select p.id, p.size
      from unnest(:ids::bigint[]) k(id)
     cross join lateral (
           select j.id, {claimed_size} as size
             from {schema}.job j
            where j.id = k.id and j.state < 'executing' and j.queue = :queue and j.schedule_at <= statement_timestamp()
              and {startable}
              and {fits}
              for update skip locked) p
     where {may_claim}
     limit :limit::bigint
)
