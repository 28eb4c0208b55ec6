-- Open a nursery; no row if the lease is lost.
select s.its_state, s.its_reason, s.is_sealed, s.is_retried, s.is_alive, s.has_members
  from {schema}.open_nursery(:id::bigint, :lease::bigint, :name, :cancels::boolean, :seconds::double precision) s
