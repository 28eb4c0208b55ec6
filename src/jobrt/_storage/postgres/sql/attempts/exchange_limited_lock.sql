-- Held until the end of the transaction: behind a pooler a session lock would be lost, or kept.
select pg_advisory_xact_lock(hashtextextended(:name, 1))
