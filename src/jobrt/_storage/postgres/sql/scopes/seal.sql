-- The body of a nursery has ended, or its members are to be ended; no row if the lease is lost.
select s.its_state, s.its_reason, s.is_sealed, s.is_retried, s.is_alive, s.has_members
  from {schema}.seal_nursery(:id::bigint, :lease::bigint, :name, :ended, :reason) s
