-- Until the end of the transaction: a lock of the session would be lost, or kept, behind a pooler.
select pg_advisory_xact_lock(hashtextextended(:name, 1))
