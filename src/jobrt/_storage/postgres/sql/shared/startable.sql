-- A parked job is for its own worker only. Of members, and jobs that may have expired, `may_start` decides.
(j.lease is null or j.lease < 0 or j.worker = :worker)
and (j.flags & 72 = 0 or {schema}.may_start(j.id, j.flags, j.started_at is not null))
