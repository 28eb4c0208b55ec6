-- Batches of entries of several running jobs. The row locks hold off a rescue and a claim until they are written; they
-- are taken in the order of ids. {skip}: of several, those that somebody else has locked are left out, and are then
-- written one by one.
--
-- The number of the newest entry is kept in `stream`. An upsert reads its newest version, even if it was changed after
-- the snapshot of this statement: by the same batch, whose reply was lost. Then the upsert returns nothing, and so
-- nothing is stored. A job has at most one batch here.
with given as materialized (
    select o.* from unnest(:ids::bigint[], :kinds::text[], :keys::text[], :texts::text[],
                           :ages::double precision[]) with ordinality o(id, kind, key, value, age, number)
),
batches as materialized (
    select o.* from unnest(:jobs::bigint[], :leases::bigint[], :numbers::bigint[], :dropped::bigint[])
                 o(id, lease, batch, dropped)
),
held as materialized (
    select j.id, j.attempt, j.flags, b.lease, b.batch, b.dropped
      from {schema}.job j join batches b on b.id = j.id and j.lease in (b.lease, -b.lease)
     order by j.id
       for no key update of j {skip}
),
keyed as (
    insert into {schema}.entry_key (job_id, key)
    select distinct g.id, g.key from given g join held h on h.id = g.id where g.key is not null order by 1, 2
        on conflict do nothing
    returning job_id, key
),
-- The entries to store: of several with one key, the first. `places` counts them, `before` has their bytes.
fresh as (
    select g.id, g.kind, g.key, g.value, g.age,
           row_number() over (partition by g.id order by g.number) as places,
           sum(octet_length(g.value)) over (partition by g.id order by g.number) - octet_length(g.value) as before
      from given g join held h on h.id = g.id
     where g.key is null
        or exists (select from keyed k where k.job_id = g.id and k.key = g.key)
           and not exists (select from given f where f.id = g.id and f.key = g.key and f.number < g.number)
),
totals as (
    select h.id, h.attempt, h.lease, h.batch, h.dropped, count(f.id) as entries,
           coalesce(sum(octet_length(f.value)), 0)::bigint as bytes
      from held h left join fresh f on f.id = h.id
     group by h.id, h.attempt, h.lease, h.batch, h.dropped
),
heads as (
    insert into {schema}.stream as s (job_id, lease, batch, last, bytes)
    select t.id, t.lease, t.batch, t.dropped + t.entries, t.bytes from totals t order by t.id
        on conflict (job_id) do update
       set lease = excluded.lease, batch = excluded.batch, last = s.last + excluded.last,
           bytes = s.bytes + excluded.bytes
     where s.lease <> excluded.lease or s.batch < excluded.batch
    returning job_id, last, bytes
),
stored as (
    insert into {schema}.entry (job_id, number, start, at, attempt, kind, key, value)
    select f.id, s.last - t.entries + f.places, s.bytes - t.bytes + f.before,
           statement_timestamp() - f.age * interval '1 second', t.attempt, f.kind, f.key, f.value
      from fresh f join totals t on t.id = f.id join heads s on s.job_id = f.id
),
-- The older entries before the first one that stays. They are read from the oldest, so this ends soon.
trimmed as (
    delete from {schema}.entry e using heads s join totals t on t.id = s.job_id
     where e.job_id = s.job_id
       and e.number < coalesce((select k.number from {schema}.entry k
                                 where k.job_id = s.job_id and k.number > s.last - :entries_kept::bigint
                                   and k.start >= s.bytes - :bytes_kept::bigint
                                 order by k.number limit 1), s.last - t.entries + 1)
)
select h.id, case when h.flags & 1024 <> 0 then pg_notify({channel}, 's:' || h.id) end from held h
