-- Changes nothing, but takes the write lock, which a caller's deferred transaction may not hold yet. Searching for
-- duplicates before that would race with other writers.
UPDATE jobrt_lease SET last = last WHERE 0;
