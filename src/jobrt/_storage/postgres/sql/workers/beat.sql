update {schema}.worker w
   set beat_at = clock_timestamp(), info = :info,
       expires_at = clock_timestamp() + make_interval(secs => :lease::double precision)
 where w.id = :worker and {known_worker}
returning w.id
