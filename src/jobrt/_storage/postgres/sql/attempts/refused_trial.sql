-- Claim these jobs as exchange.sql does, to see whether the database refuses it. The transaction is rolled back.
with claimed as (
    update {schema}.job j
       set state = 'executing', lease = {new_lease}, worker = :worker,
           attempt = least(j.attempt, 2147483646) + 1, started_at = statement_timestamp()
     where j.id = any(array(
         select k.id from {schema}.job k
          where k.id = any(:ids::bigint[]) and k.state in ('scheduled', 'available', 'retryable')
          order by k.id
            for update skip locked))
    returning {claimed_columns}
)
{claimed_rows}
