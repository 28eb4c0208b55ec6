-- Take the next message, and store it as the answer.
with next as (
    select m.id, m.key, m.value from {schema}.message m
     where m.job_id = :id::bigint and m.name = :name and not m.received
     order by m.id limit 1
),
kept as (
    update {schema}.message m set received = true, value = 'null' from next n where m.id = n.id and n.key is not null
),
gone as (
    delete from {schema}.message m using next n where m.id = n.id and n.key is null
)
update {schema}.answer a set ended = 'message', value = n.value
  from next n
 where a.job_id = :id::bigint and a.kind = 'message' and a.name = :name and a.number = :number::bigint
returning a.value
