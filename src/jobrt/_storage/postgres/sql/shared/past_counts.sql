-- The counts of a row `p` of past. No count of jobrt comes near these limits, so the sums of damaged ones fit their types.
least(greatest(p.enqueued, 0), 1000000000000) as enqueued, least(greatest(p.completed, 0), 1000000000000) as completed,
least(greatest(p.failed, 0), 1000000000000) as failed, least(greatest(p.dead, 0), 1000000000000) as dead,
least(greatest(p.cancelled, 0), 1000000000000) as cancelled, least(greatest(p.seconds, 0), 1e15) as seconds,
array(select least(greatest(h.number, 0), 1000000000000) from unnest(p.histogram) h(number) limit 12) as histogram
