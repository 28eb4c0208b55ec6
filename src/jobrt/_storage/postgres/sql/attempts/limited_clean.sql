-- Buckets that are full again, and free: without them the same is allowed. Claims lock them in another order.
delete from {schema}.bucket b
 where (b.queue, b.key) in (
       select queue, key from {schema}.bucket where full_at < statement_timestamp() and not {in_force}
          for update skip locked)
