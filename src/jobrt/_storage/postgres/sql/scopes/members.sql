-- Members in the order of the primary key. The last column: this attempt has enqueued the member, or run it again. Attempts that have crashed since count as this
-- one, if the records of all of them are kept.
with own as (
    select j.attempt from {schema}.job j where j.id = :id::bigint
),
last as (
    select coalesce(max(a.number), 0) as number from {schema}.attempt a
     where a.job_id = :id::bigint and a."end" not in ('crashed', 'interrupted', 'lease_lost', 'suspended')
),
crashed as (
    select count(distinct a.number) as many from own o cross join last l
      join {schema}.attempt a on a.job_id = :id::bigint and a."end" = 'crashed' and a.number > l.number
                             and a.number < o.attempt
),
since as (
    select case when c.many = o.attempt - 1 - l.number then l.number + 1 else o.attempt end as attempt
      from own o cross join last l cross join crashed c
)
select m.number, m.identity, m.child_id, coalesce(j.name, ''), coalesce(j.state::text, 'cancelled'), m.kind = 'c',
       m.attempt >= (select s.attempt from since s)
  from {schema}.member m
  left join {schema}.job j on j.id = m.child_id
 where m.job_id = :id::bigint and m.nursery = :name and m.identity > :after
 order by m.identity
 limit :limit::bigint
