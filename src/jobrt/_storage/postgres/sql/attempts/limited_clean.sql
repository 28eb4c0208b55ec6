-- Buckets that are full again: without them the same is allowed.
delete from {schema}.bucket b
 where b.queue = :queue and b.full_at < statement_timestamp() and b.held_until < statement_timestamp()
