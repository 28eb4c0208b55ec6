-- The body of a nursery has ended, or its members are to be ended; no row if the lease is lost. If its body has ended
-- before, and nothing is to change, which is so after each wait for its members, nothing is locked or written: the
-- parent goes on without a commit.
with unchanged as materialized (
    select n.state, n.reason, n.sealed, n.retried,
           (select true from {schema}.living l
             where l.job_id = n.job_id and l.nursery = n.name order by l.child_id desc limit 1) is not null,
           exists (select from {schema}.member m where m.job_id = n.job_id and m.nursery = n.name)
      from {schema}.nursery n
     where n.job_id = :id::bigint and n.name = :name and n.sealed and not n.retried and :ended::text is null
       and exists (select from {schema}.job j
                    where j.id = :id::bigint and j.lease = :lease::bigint and j.lease > 0 and j.state = 'executing')
)
select * from unchanged
union all
select s.its_state, s.its_reason, s.is_sealed, s.is_retried, s.is_alive, s.has_members
  from {schema}.seal_nursery(:id::bigint, :lease::bigint, :name, :ended::text, :reason) s
 where not exists (select from unchanged)
