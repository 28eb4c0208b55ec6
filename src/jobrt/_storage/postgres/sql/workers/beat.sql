-- clock_timestamp(): a heartbeat that waited for the lock of a rescue must use the time after the wait.
update {schema}.worker w
   set beat_at = clock_timestamp(), info = :info,
       expires_at = clock_timestamp() + make_interval(secs => :lease::double precision)
 where w.id = :worker and w.expires_at > clock_timestamp()
