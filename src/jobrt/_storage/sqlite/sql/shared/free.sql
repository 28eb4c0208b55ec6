-- A parked job is for its own worker only. One that is asked to stop is for nobody: its worker ends it under the lease
-- that it has. Under another lease it would run again, and the request would not reach it.
(lease IS NULL OR lease < 0 OR worker = :worker AND cancel_reason IS NULL)
