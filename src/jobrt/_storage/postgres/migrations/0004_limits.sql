-- The key by which a job is limited (`_core/keys.py`), for jobs of queues that have a key. Others have null, which takes
-- no room in the row and no entry in an index.
alter table {schema}.job add column limit_key text collate "C";

-- For claims that go from key to key. The condition about waiting jobs is not that of job_waiting: a statement that is
-- written with this one can be run by this index only, whatever the statistics say.
create index job_keyed on {schema}.job (queue, priority desc, limit_key, schedule_at, id)
    where state < 'executing' and limit_key is not null;
-- For counting what runs of each key.
create index job_keyed_executing on {schema}.job (queue, limit_key)
    where state = 'executing' and limit_key is not null;

-- key: the field of which keys are made; clients read it when they enqueue. turn: the key that was claimed last, if the
-- queue is fair. held_until: nothing of the queue starts before.
alter table {schema}.queue
    add column key text,
    add column turn text collate "C",
    add column held_until timestamptz;

-- Tokens of a rate (`_core/rates.py`): of a key, or of the whole queue, whose key is the empty text. A bucket that is
-- full again is as good as none, and is deleted some time after full_at.
create table {schema}.bucket (
    queue      text not null,
    key        text collate "C" not null,
    at         timestamptz not null,
    parts      bigint not null,
    unit       bigint not null,
    held_until timestamptz not null default '-infinity',
    full_at    timestamptz not null,
    primary key (queue, key)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- Whoever may enqueue must know the keys of queues.
do $$
declare
    grantee text;
begin
    for grantee in
        select distinct case when a.grantee = 0 then 'public' else quote_ident(r.rolname) end
          from pg_attribute t cross join lateral aclexplode(t.attacl) a left join pg_roles r on r.oid = a.grantee
         where t.attrelid = '{literal}.job'::regclass and t.attname = 'queue' and a.privilege_type = 'INSERT'
    loop
        execute format('grant insert (limit_key) on {literal}.job to %s', grantee);
        execute format('grant select (name, key) on {literal}.queue to %s', grantee);
    end loop;
end
$$;

-- The parts of a bucket at a time. `rate` is the parts that a microsecond adds, the parts of a token, and the burst. A
-- bucket that is not stored is full. A clock that was set back adds nothing. There are no fewer than claims in advance
-- leave, whatever stands in the row.
create function {schema}.bucket_parts(parts bigint, at timestamptz, unit bigint, now timestamptz, rate bigint[])
returns numeric language sql immutable parallel safe as $$
select case when parts is null then rate[3]::numeric * rate[2] else
    least(greatest(case when unit = rate[2] then parts::numeric
                        else floor(parts::numeric * rate[2] / greatest(unit, 1)) end,
                   (-100000 * rate[1] - rate[2])::numeric)
              + greatest(extract(epoch from now) - extract(epoch from at), 0) * 1000000 * rate[1],
          rate[3]::numeric * rate[2]) end
$$;

-- As shared/fits.sql says.
create function {schema}.fits(name text, version smallint, unfit bigint, fits jsonb)
returns boolean language sql immutable parallel safe as $$
select case when version is null and unfit is null then true
            else coalesce(version, 1) <= coalesce((fits -> name ->> 0)::integer, 1)
                 and (unfit is null or unfit is distinct from (fits -> name ->> 1)::bigint) end
$$;

-- What is left of caps after these jobs.
create function {schema}.caps_left(caps bigint[], cap_names text[], cap_numbers bigint[], ids bigint[])
returns bigint[] language sql stable as $$
select case when cardinality(caps) = 0 then caps else array(
    select c.cap - (select count(*) from {schema}.job j
                      join unnest(cap_names, cap_numbers) u(name, cap) on u.name = j.name and u.cap = c.number
                     where j.id = any(ids))
      from unnest(caps) with ordinality c(cap, number) order by c.number) end
$$;

-- Microseconds until a bucket with so many parts has a token.
create function {schema}.bucket_wait(parts numeric, rate bigint[])
returns numeric language sql immutable parallel safe as $$
select ceil(greatest(rate[2] - parts, 0) / rate[1])
$$;

-- Take tokens from buckets with these keys.
create function {schema}.take_tokens(
    of_queue text, keys text[], numbers bigint[], now timestamptz, rate bigint[]
) returns void language sql as $$
insert into {schema}.bucket as b (queue, key, at, parts, unit, full_at)
select of_queue, u.key, now, left_parts, rate[2],
       now + make_interval(secs => ((rate[3]::numeric * rate[2] - left_parts) / rate[1] / 1000000)::double precision)
  from unnest(keys, numbers) u(key, number)
  left join {schema}.bucket o on o.queue = of_queue and o.key = u.key
 cross join lateral (
       select ({schema}.bucket_parts(o.parts, o.at, o.unit, now, rate) - u.number * rate[2])::bigint as left_parts) l
 order by u.key
    on conflict (queue, key) do update
   set at = excluded.at, parts = excluded.parts, unit = excluded.unit, full_at = excluded.full_at
$$;

-- How many more jobs of a key may start, and the microseconds until one may, if none may because of a rate or a hold.
create function {schema}.key_room(
    of_queue text, of_key text, slots bigint, taken bigint, buckets boolean, rate bigint[], ahead bigint, now timestamptz,
    out free bigint, out wait numeric
) language plpgsql stable as $$
declare
    parts numeric;
    held_until timestamptz;
    stored boolean := false;
begin
    free := slots;
    if buckets then
        select {schema}.bucket_parts(b.parts, b.at, b.unit, now, rate), b.held_until, true
          into parts, held_until, stored
          from {schema}.bucket b where b.queue = of_queue and b.key = of_key;
        if held_until > now and held_until <= now + interval '1 hour' then
            free := 0;
            wait := extract(epoch from held_until - now) * 1000000;
            return;
        end if;
    end if;
    if rate is not null then
        parts := coalesce(parts, rate[3]::numeric * rate[2]) - taken * rate[2];
        free := least(free, floor((parts + ahead * rate[1]) / rate[2]));
        if free < 1 then
            wait := {schema}.bucket_wait(parts + ahead / 2 * rate[1], rate);
        end if;
    end if;
end
$$;

-- The next keys of waiting jobs of one priority, one index probe each.
create function {schema}.keys_between(of_queue text, level bigint, low text, high text, most bigint)
returns text[] language sql stable as $$
with recursive found (key, number) as (
    select (select j.limit_key from {schema}.job j
             where j.queue = of_queue and j.state < 'executing' and j.limit_key is not null and j.priority = level
               and j.limit_key > low and j.limit_key < high
             order by j.limit_key limit 1), 1
     where most > 0
    union all
    select (select j.limit_key from {schema}.job j
             where j.queue = of_queue and j.state < 'executing' and j.limit_key is not null and j.priority = level
               and j.limit_key > f.key and j.limit_key < high
             order by j.limit_key limit 1), f.number + 1
      from found f where f.key is not null and f.number < most
)
select coalesce(array_agg(f.key order by f.number), '{}') from found f where f.key is not null
$$;

-- Whether a worker could claim a job, were there no limits.
create function {schema}.has_due(of_queue text, names text[], fits jsonb, of_worker text, now timestamptz)
returns boolean language plpgsql stable as $$
declare
    level bigint := 1::bigint << 40;
begin
    loop
        select j.priority into level from {schema}.job j
         where j.queue = of_queue and j.state in ('scheduled', 'available', 'retryable') and j.priority < level
         order by j.priority desc limit 1;
        if not found then
            return false;
        end if;
        perform from {schema}.job j
         where j.queue = of_queue and j.state in ('scheduled', 'available', 'retryable') and j.priority = level
           and j.schedule_at <= now and j.name = any(names) and {schema}.fits(j.name, j.version, j.unfit, fits)
           and (j.lease is null or j.lease < 0 or j.worker = of_worker)
           and (j.flags & 72 = 0 or {schema}.may_start(j.id, j.flags, j.started_at is not null))
         limit 1;
        if found then
            return true;
        end if;
    end loop;
end
$$;

-- A claim under limits for the whole cluster (design/limits.md). It is a function, because each of its statements must
-- see what others have committed before this one had the turn: those of a volatile function do.
--
-- Arguments: names without a cap; names with a cap, which of the caps each has (those of one job class share it), and
-- the caps; rates (see bucket_parts); in `ask` turn_name, queue, worker, since (`_storage/beats.py`), limit, starting,
-- fits (`Demand.fits`), cluster_limit, low and high (the range of keys), per_key, ahead, claim_ahead, fair, many and turn
-- (what `_core/looks.py` remembers). Each statement costs some ten microseconds, so there are few.
--
-- The first row is about the call; the others are jobs.
create function {schema}.claim_limited(
    ask jsonb, names text[], cap_names text[], cap_numbers bigint[], all_caps bigint[], rate bigint[], key_rate bigint[],
    ended bigint
) returns table (about text, job {schema}.job) language plpgsql
-- In a session of others: plans by index only, whatever the statistics say.
set plan_cache_mode = 'force_generic_plan' set enable_seqscan = off set enable_bitmapscan = off set enable_sort = off
set enable_hashjoin = off set enable_mergejoin = off set jit = off
as $$
#variable_conflict use_column
declare
    few constant integer := 64;
    most constant integer := 1000;
    of_queue constant text := ask->>'queue';
    of_worker constant text := ask->>'worker';
    low constant text := ask->>'low';
    high constant text := ask->>'high';
    per_key constant bigint := coalesce((ask->>'per_key')::bigint, 1000000000);
    fair constant boolean := (ask->>'fair')::boolean;
    asked constant bigint := (ask->>'limit')::bigint;
    starting bigint := (ask->>'starting')::bigint;
    ahead constant bigint := (ask->>'ahead')::bigint;
    capped constant boolean := cardinality(cap_names) > 0;
    caps bigint[] := all_caps;
    fits constant jsonb := ask->'fits';
    open_names text[] := names;
    is_known boolean;
    many boolean := (ask->>'many')::boolean;
    last_key text := ask->>'turn';
    now timestamptz;
    room bigint := asked;
    tokens numeric;
    level bigint := 1::bigint << 40;
    running jsonb := '{}';
    taken jsonb := '{}';
    -- Jobs for slots that are taken, if this worker alone has them (design/limits.md, "Claimed ahead").
    ahead_left bigint := coalesce((ask->>'claim_ahead')::bigint, 0);
    shared jsonb := '{}';
    at_once bigint;
    others bigint;
    chained bigint[] := '{}';
    buckets boolean;
    wait numeric;
    is_paused boolean;
    held timestamptz;
    stored_turn text;
    stored_key text;
    due timestamptz;
    keys text[];
    jobs bigint;
    seen bigint;
    walked bigint;
    in_turns boolean;
    full_lanes boolean;
    new_ids bigint[];
    new_keys text[];
    new_wait numeric;
    ids bigint[] := '{}';
    cut boolean := false;
    held_back boolean := false;
    its_lease bigint;
    start_times timestamptz[];
    starts jsonb;
    begun jsonb;
    keys_of jsonb;
begin
    perform pg_advisory_xact_lock(hashtextextended(ask->>'turn_name', 1));
    now := clock_timestamp();
    select q.paused, q.held_until, q.turn, q.key,
           ask->'since' = 'null' or exists (
               select from {schema}.worker w
                where w.id = ask->>'worker' and w.expires_at > now
                  and coalesce({schema}.as_json(w.info)->'beat', '0') >= ask->'since')
      into is_paused, held, stored_turn, stored_key, is_known
      from (select) one left join {schema}.queue q on q.name = of_queue;
    if held > now and held <= now + interval '1 hour' then
        wait := extract(epoch from held - now) * 1000000;
    end if;
    if is_paused or wait is not null or ended < 0 or low is not null and stored_key is null
       or not is_known then
        room := 0;
    end if;
    if fair then
        last_key := coalesce(stored_turn, '');
    end if;
    if ask->'cluster_limit' <> 'null' and room > 0 then
        select (ask->>'cluster_limit')::bigint - count(*), count(*) filter (where j.worker is distinct from of_worker)
          into at_once, others
          from {schema}.job j where j.queue = of_queue and j.state = 'executing';
        at_once := greatest(at_once, 0);
        room := least(room, at_once + case when others = 0 then ahead_left else 0 end);
    end if;
    if rate is not null and room > 0 then
        select {schema}.bucket_parts(b.parts, b.at, b.unit, now, rate) into tokens
          from (select) one left join {schema}.bucket b on b.queue = of_queue and b.key = '';
        room := least(room, floor((tokens + ahead * rate[1]) / rate[2]));
    end if;
    if rate is not null or key_rate is not null then
        room := least(room, starting);
    end if;
    if low is not null and room > 0 then
        select exists (select from {schema}.bucket b where b.queue = of_queue and b.key >= low and b.key < high),
               r.numbers, r.shared
          into buckets, running, shared
          from (select jsonb_object_agg(r.limit_key, r.number) as numbers,
                       jsonb_object_agg(r.limit_key, true) filter (where r.others > 0) as shared
                  from (select j.limit_key, count(*) as number,
                               count(*) filter (where j.worker is distinct from of_worker) as others
                          from {schema}.job j
                         where j.queue = of_queue and j.state = 'executing' and j.limit_key is not null
                           and ask->'per_key' <> 'null'
                         group by j.limit_key) r) r;
        running := coalesce(running, '{}');
        shared := coalesce(shared, '{}');
    end if;

    while room > 0 loop
        select j.priority into level from {schema}.job j
         where j.queue = of_queue and j.state in ('scheduled', 'available', 'retryable') and j.priority < level
         order by j.priority desc limit 1;
        exit when not found;
        if capped then
            open_names := names || array(
                select u.name from unnest(cap_names, cap_numbers) u(name, cap) where caps[u.cap] > 0);
            exit when cardinality(open_names) = 0;
        end if;

        if low is null then
            -- One scan for the names without a cap, and one for each name with a cap.
            select coalesce(array_agg(p.id), '{}') into new_ids
              from (select k.id
                      from (select null::text[], room where cardinality(names) > 0
                            union all
                            select array_agg(u.name), caps[u.cap] from unnest(cap_names, cap_numbers) u(name, cap)
                             group by u.cap) s(called, most)
                     cross join lateral (
                           select j.id, j.schedule_at from {schema}.job j
                            where j.queue = of_queue and j.state in ('scheduled', 'available', 'retryable')
                              and j.priority = level and j.schedule_at <= now
                              and (j.name = any(s.called) or s.called is null and j.name = any(names))
                              and {schema}.fits(j.name, j.version, j.unfit, fits)
                              and (j.lease is null or j.lease < 0 or j.worker = of_worker)
                              and (j.flags & 72 = 0 or {schema}.may_start(j.id, j.flags, j.started_at is not null))
                            order by j.schedule_at, j.id
                            limit greatest(least(s.most, room), 0)) k
                     order by k.schedule_at, k.id
                     limit room) p;
            ids := ids || new_ids;
            room := room - cardinality(new_ids);
        else
            in_turns := fair;
            walked := null;
            if many and not fair then
                -- The first due jobs, in order. Whatever keys they have, no more are looked at.
                seen := 2 * room + 200;
                with walk as materialized (
                    select j.id, j.name, j.limit_key, j.schedule_at from {schema}.job j
                     where j.queue = of_queue and j.state in ('scheduled', 'available', 'retryable')
                       and j.priority = level and j.schedule_at <= now and j.name = any(open_names)
                       and {schema}.fits(j.name, j.version, j.unfit, fits) and j.id <> all(ids)
                       and (j.lease is null or j.lease < 0 or j.worker = of_worker)
                       and (j.flags & 72 = 0 or {schema}.may_start(j.id, j.flags, j.started_at is not null))
                     order by j.schedule_at, j.id
                     limit seen
                ),
                lane as materialized (
                    select jsonb_object_agg(k.key, f.free) as free, min(f.wait) as wait
                      from (select distinct w.limit_key as key from walk w
                             where w.limit_key >= low and w.limit_key < high
                               and (buckets or key_rate is not null)) k
                     cross join lateral {schema}.key_room(
                           of_queue, k.key, per_key - coalesce((running->>k.key)::bigint, 0),
                           coalesce((taken->>k.key)::bigint, 0), buckets, key_rate, ahead, now) f
                ),
                of_key as (
                    select w.*, row_number() over (partition by w.limit_key order by w.schedule_at, w.id) as nth,
                           coalesce((l.free->>w.limit_key)::bigint,
                                    per_key - coalesce((running->>w.limit_key)::bigint, 0)) as free
                      from walk w cross join lane l
                     where w.limit_key >= low and w.limit_key < high
                ),
                of_cap as (
                    select k.*, c.cap, row_number() over (partition by c.cap order by k.schedule_at, k.id) as nth_of_cap
                      from of_key k left join unnest(cap_names, cap_numbers) c(name, cap) on c.name = k.name
                     where k.nth <= k.free
                ),
                picked as (
                    select n.id, n.limit_key from of_cap n
                     where n.cap is null or n.nth_of_cap <= caps[n.cap]
                     order by n.schedule_at, n.id
                     limit room
                )
                select (select count(*) from walk), (select l.wait from lane l),
                       coalesce(array_agg(p.id), '{}'), coalesce(array_agg(p.limit_key), '{}')
                  into walked, new_wait, new_ids, new_keys from picked p;
                wait := least(wait, new_wait);
                ids := ids || new_ids;
                room := room - cardinality(new_ids);
                select running || coalesce(jsonb_object_agg(
                           k.key, coalesce((running->>k.key)::bigint, 0) + k.number), '{}'),
                       taken || coalesce(jsonb_object_agg(
                           k.key, coalesce((taken->>k.key)::bigint, 0) + k.number), '{}')
                  into running, taken
                  from (select n.key, count(*) as number from unnest(new_keys) n(key) group by n.key) k;
                if capped then
                    caps := {schema}.caps_left(all_caps, cap_names, cap_numbers, ids);
                end if;
                if walked < seen then
                    many := walked > few;
                    walked := -1;  -- all have been seen
                else
                    in_turns := true;
                end if;
            end if;

            if room > 0 and walked is distinct from -1 then
                -- From key to key, by one index probe each; in turns, after the last key that had its turn.
                if in_turns then
                    keys := {schema}.keys_between(of_queue, level, greatest(last_key, low), high, most);
                    if cardinality(keys) < most and last_key > low then
                        keys := keys || {schema}.keys_between(
                            of_queue, level, low, last_key || chr(1), most - cardinality(keys));
                    end if;
                else
                    keys := {schema}.keys_between(of_queue, level, low, high, few);
                end if;
                if not in_turns and cardinality(keys) >= few then
                    many := true;
                    level := level + 1;  -- again, by the first due jobs
                    continue;
                end if;
                jobs := case when in_turns then 1 + room / greatest(cardinality(keys), 1) else room end;
                loop
                    with lane as materialized (
                        select k.key, k.place, f.free, f.wait
                          from unnest(keys) with ordinality k(key, place)
                         cross join lateral {schema}.key_room(
                               of_queue, k.key, per_key - coalesce((running->>k.key)::bigint, 0),
                               coalesce((taken->>k.key)::bigint, 0), buckets, key_rate, ahead, now) f
                    ),
                    of_key as (
                        select h.*, l.key, l.place, l.free, row_number() over (
                                   partition by l.key order by h.schedule_at, h.id) as nth
                          from lane l
                         cross join lateral (
                               select j.id, j.name, j.schedule_at from {schema}.job j
                                where j.queue = of_queue and j.state < 'executing' and j.limit_key is not null
                                  and j.priority = level and j.limit_key = l.key
                                  and j.schedule_at <= now and j.name = any(open_names)
                                  and {schema}.fits(j.name, j.version, j.unfit, fits) and j.id <> all(ids)
                                  and (j.lease is null or j.lease < 0 or j.worker = of_worker)
                                  and (j.flags & 72 = 0 or {schema}.may_start(j.id, j.flags, j.started_at is not null))
                                order by j.schedule_at, j.id
                                limit greatest(least(l.free, jobs), 0)) h
                    ),
                    of_cap as (
                        select k.*, case when in_turns then k.nth end as round,
                               case when in_turns then k.place end as lane_place,
                               c.cap, row_number() over (partition by c.cap order by
                                   case when in_turns then k.nth end, case when in_turns then k.place end,
                                   k.schedule_at, k.id) as nth_of_cap
                          from of_key k left join unnest(cap_names, cap_numbers) c(name, cap) on c.name = k.name
                    ),
                    picked as (
                        select n.id, n.key from of_cap n
                         where n.cap is null or n.nth_of_cap <= caps[n.cap]
                         order by n.round, n.lane_place, n.schedule_at, n.id
                         limit room
                    )
                    select (select min(l.wait) from lane l),
                           coalesce((select bool_or(k.nth >= jobs and k.free > jobs) from of_key k), false),
                           coalesce(array_agg(p.id), '{}'), coalesce(array_agg(p.key), '{}')
                      into new_wait, full_lanes, new_ids, new_keys from picked p;
                    exit when cardinality(new_ids) >= room or not full_lanes;
                    jobs := 8 * jobs;
                end loop;
                wait := least(wait, new_wait);
                ids := ids || new_ids;
                room := room - cardinality(new_ids);
                if in_turns then
                    last_key := coalesce(new_keys[cardinality(new_keys)], keys[cardinality(keys)], last_key);
                    if cardinality(keys) >= most and room > 0 then
                        wait := least(wait, 100000);
                    end if;
                end if;
                select running || coalesce(jsonb_object_agg(
                           k.key, coalesce((running->>k.key)::bigint, 0) + k.number), '{}'),
                       taken || coalesce(jsonb_object_agg(
                           k.key, coalesce((taken->>k.key)::bigint, 0) + k.number), '{}')
                  into running, taken
                  from (select n.key, count(*) as number from unnest(new_keys) n(key) group by n.key) k;
            end if;

            if least(ahead_left, room) > 0 then
                -- More jobs of keys that are full by jobs of this worker alone: they wait there for a slot of their key.
                with lane as materialized (
                    select r.key from (
                        select n.key from jsonb_each(running) n(key, number)
                         where n.number::bigint >= per_key and not shared ? n.key limit few) r
                     cross join lateral {schema}.key_room(of_queue, r.key, 1, 0, buckets, null, 0, now) f
                     where f.free > 0
                )
                select coalesce(array_agg(p.id), '{}') into new_ids
                  from (select h.id from lane l
                         cross join lateral (
                               select j.id, j.schedule_at from {schema}.job j
                                where j.queue = of_queue and j.state < 'executing' and j.limit_key is not null
                                  and j.priority = level and j.limit_key = l.key
                                  and j.schedule_at <= now and j.name = any(names)
                                  and {schema}.fits(j.name, j.version, j.unfit, fits) and j.id <> all(ids)
                                  and (j.lease is null or j.lease < 0 or j.worker = of_worker)
                                  and (j.flags & 72 = 0 or {schema}.may_start(j.id, j.flags, j.started_at is not null))
                                order by j.schedule_at, j.id
                                limit 1 + least(ahead_left, room) / (select count(*) from lane)) h
                         order by h.schedule_at, h.id
                         limit least(ahead_left, room)) p;
                chained := chained || new_ids;
                ids := ids || new_ids;
                room := room - cardinality(new_ids);
                ahead_left := ahead_left - cardinality(new_ids);
            end if;
        end if;
        if capped then
            caps := {schema}.caps_left(all_caps, cap_names, cap_numbers, ids);
            if low is not null and 0 = any(caps) and exists (
                select from unnest(cap_names, cap_numbers) u(name, cap)
                 where caps[u.cap] = 0 and u.name = any(open_names)) then
                level := level + 1;  -- again, without the names that have just reached their caps
            end if;
        end if;
    end loop;

    if fair and last_key is distinct from coalesce(stored_turn, '') then
        insert into {schema}.queue as q (name, turn) values (of_queue, last_key)
            on conflict (name) do update set turn = excluded.turn;
    end if;

    if cardinality(ids) > 0 then
        -- One that another transaction has changed since is passed over. Large jobs end the claim before its limit.
        select coalesce(array_agg(s.id order by s.priority desc, s.schedule_at, s.id)
                        filter (where s.total <= 16777216 or s.total = s.size), '{}'),
               coalesce(bool_or(s.total > 16777216 and s.total <> s.size), false)
          into new_ids, cut
          from (select p.id, p.priority, p.schedule_at, p.size, sum(p.size) over (
                           order by p.priority desc, p.schedule_at, p.id rows unbounded preceding) as total
                  from (select j.id, j.priority, j.schedule_at,
                               octet_length(j.args)::bigint + coalesce(octet_length(j.metadata), 0)
                                   + coalesce(octet_length(j.context), 0) + coalesce(pg_column_size(j.tags), 0)
                                   + case when j.records > 0 then (
                                         select coalesce(sum(least(octet_length(a.message), 44000)
                                                             + least(octet_length(a.traceback), 204000)), 0)
                                           from {schema}.attempt a where a.job_id = j.id)::bigint else 0 end
                                   + case when j.flags & 1 <> 0 then coalesce((
                                         select coalesce(octet_length(d.saved), 0)::bigint
                                                + coalesce(octet_length(d.progress), 0)
                                           from {schema}.detail d where d.job_id = j.id), 0) else 0 end as size
                          from {schema}.job j
                         where j.id = any(ids) and j.state < 'executing'
                           for update skip locked) p) s;
        its_lease := ((extract(epoch from clock_timestamp()) * 1000)::bigint << 20)
                 | (nextval('{literal}.lease') & 1048575);
        if rate is null and key_rate is null then
            if at_once is not null then
                starting := least(starting, at_once);
            end if;
            if cardinality(chained) = 0 then
                ids := new_ids[:starting];
            else
                ids := array(select n.id from unnest(new_ids) with ordinality n(id, place)
                              where n.id <> all(chained) order by n.place limit starting);
            end if;
            if ask->'claim_ahead' <> '0' then
                begun := to_jsonb(ids);
                if ask->'per_key' <> 'null' then
                    select jsonb_object_agg(j.id, j.limit_key) into keys_of from {schema}.job j where j.id = any(new_ids);
                end if;
            end if;
            start_times := array_fill(now, array[cardinality(ids)]);
        else
            -- Each starts when its token is there, in the order in which they were chosen.
            select array_agg(o.id), array_agg(now + o.micros * interval '1 microsecond')
              into ids, start_times
              from (select i.id, greatest(
                        ceil((row_number() over (order by i.place) * rate[2] - tokens) / rate[1]),
                        ceil((row_number() over (partition by j.limit_key order by i.place) * key_rate[2]
                              - {schema}.bucket_parts(b.parts, b.at, b.unit, now, key_rate)) / key_rate[1]),
                        0) as micros
                      from unnest(ids) with ordinality i(id, place)
                      join {schema}.job j on j.id = i.id
                      left join {schema}.bucket b
                             on key_rate is not null and b.queue = of_queue and b.key = j.limit_key
                     where j.id = any(new_ids)) o;
            select jsonb_object_agg(s.id, (extract(epoch from s.at) * 1000000)::bigint) into starts
              from unnest(ids, start_times) s(id, at);
        end if;
        return query
            with claimed as (
                update {schema}.job j
                   set state = 'executing', lease = its_lease, worker = ask->>'worker',
                       attempt = least(j.attempt, 2147483646) + 1,
                       started_at = start_times[array_position(ids, j.id)]
                 where j.id = any(new_ids)
                returning j
            )
            select null::text, c.j from claimed c;
        if rate is not null then
            perform {schema}.take_tokens(of_queue, array[''], array[cardinality(new_ids)::bigint], now, rate);
        end if;
        if key_rate is not null then
            perform {schema}.take_tokens(
                of_queue, array_agg(k.limit_key), array_agg(k.number), now, key_rate)
               from (select j.limit_key, count(*) as number from {schema}.job j
                      where j.id = any(new_ids) group by j.limit_key) k;
        end if;
    else
        new_ids := '{}';
    end if;
    if rate is not null and tokens is not null
       and floor((tokens + ahead * rate[1]) / rate[2]) <= cardinality(new_ids) then
        wait := least(wait, {schema}.bucket_wait(
            tokens - cardinality(new_ids) * rate[2] + ahead / 2 * rate[1], rate));
    end if;
    if wait is not null and coalesce(held <= now or held > now + interval '1 hour', true) and cardinality(new_ids) = 0 then
        held_back := {schema}.has_due(of_queue, names || cap_names, fits, of_worker, now);
    end if;
    if cardinality(new_ids) < asked and not cut then
        select j.schedule_at into due from {schema}.job j
         where j.queue = of_queue and j.state in ('scheduled', 'retryable')
           and j.schedule_at > now and j.schedule_at < 'infinity'
         order by j.schedule_at limit 1;
    end if;
    return query select jsonb_build_object(
        'at', (extract(epoch from now) * 1000000)::bigint, 'cut', cut, 'many', many, 'turn', last_key,
        'undeclared', low is not null and stored_key is null,
        'started', least(starting, cardinality(new_ids)),
        'held_back', held_back,
        'starts', starts, 'begun', begun, 'keys', keys_of,
        'next_due', least(extract(epoch from due - now), wait / 1000000))::text, null::{schema}.job;
end
$$;
