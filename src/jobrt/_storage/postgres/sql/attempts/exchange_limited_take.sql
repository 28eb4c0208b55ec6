-- Claim the chosen jobs. Another transaction may have changed one since then: that one is skipped.
with claimed as (
    update {schema}.job j
       set state = 'executing', lease = {new_lease}, worker = :worker,
           attempt = least(j.attempt, 2147483646) + 1,
           started_at = case when j.id = any(:starting::bigint[]) then :now::timestamptz end
     where j.id = any(array(select p.id from {schema}.job p
                             where p.id = any(:ids::bigint[]) and p.queue = :queue
                               and p.state in ('scheduled', 'available', 'retryable')
                               and (p.lease is null or p.lease < 0 or p.worker = :worker)
                             order by p.id for update skip locked))
    returning j.*
)
{claimed_rows}
