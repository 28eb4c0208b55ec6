-- Jobs that a claim with a lost reply has leased to a worker that does not know of them.
select j.id, j.lease
  from {schema}.job j
 where j.queue = :queue and j.worker = :worker and j.state = 'executing'
   and not exists (select from unnest(:ids::bigint[], :leases::bigint[]) k(id, lease)
                    where k.id = j.id and k.lease = j.lease)
 order by j.id
