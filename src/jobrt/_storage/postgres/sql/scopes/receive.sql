-- Take the next message, or say how this wait ended before; no row if the lease is lost.
select r.how, r.what
  from {schema}.receive_message(:id::bigint, :lease::bigint, :name, :number::bigint, :seconds::double precision) r
