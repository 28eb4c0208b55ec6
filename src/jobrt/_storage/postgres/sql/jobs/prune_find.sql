-- Final jobs that one rule no longer keeps. Names are found by skip scan. For each name the rows older than the
-- newest kept ones are read, oldest first. Kept jobs are not read, except the few newest that are counted. A child goes
-- with its parent.
with recursive known (name) as (
    (select j.name from {schema}.job j
      where j.state = :state::text::{schema}.job_state and j.finished_at is not null order by j.name limit 1)
    union all
    select (select j.name from {schema}.job j
             where j.state = :state::text::{schema}.job_state and j.finished_at is not null and j.name > k.name
             order by j.name limit 1)
      from known k where k.name is not null
)
select f.id
  from known k
 cross join lateral (
       select g.finished_at, g.id from (
           select j.finished_at, j.id from {schema}.job j
            where :keep::integer > 0 and j.state = :state::text::{schema}.job_state and j.finished_at is not null
              and j.name = k.name
          and (:queue::text is null or j.queue = :queue) and j.queue <> all(:except_queues::text[])
            order by j.finished_at desc, j.id desc limit greatest(:keep::integer, 1)) g
        union all select 'infinity', 0
        order by 1, 2 limit 1) stay
 cross join lateral (
       select j.id from {schema}.job j
        where j.state = :state::text::{schema}.job_state and j.finished_at is not null and j.name = k.name
          and (:queue::text is null or j.queue = :queue) and j.queue <> all(:except_queues::text[])
          and j.finished_at < coalesce(statement_timestamp() - :age::interval, 'infinity')
          and (j.finished_at, j.id) < (stay.finished_at, stay.id)
          and (j.flags & 8 = 0
               or not exists (select from {schema}.member m where m.child_id = j.id and m.kind = 'c'))
          and j.id <> all(:but::bigint[])
        order by j.finished_at, j.id
        limit :limit::bigint) f
 where k.name = any(:only::text[]) is not false and k.name <> all(:except::text[])
 limit :limit::bigint
