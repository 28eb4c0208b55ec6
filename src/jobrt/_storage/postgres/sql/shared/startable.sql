-- A parked job is for its own worker only. One that is asked to stop is for nobody: its worker ends it under the lease
-- that it has. Under another lease it would run again, and the request would not reach it.
--
-- Of jobs that may have expired, and of members while some nursery is being ended, `may_start` decides. A claim asks for
-- the latter once, at its first member: the question costs 20 µs.
(j.lease is null or j.lease < 0 or j.worker = :worker and j.cancel_reason is null)
and (j.flags & 72 = 0 or j.flags & 64 = 0 and not (select {schema}.any_ending())
     or {schema}.may_start(j.id, j.flags, j.started_at is not null))
