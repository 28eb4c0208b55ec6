-- A parked attempt that goes on needs no token, and does not wait for one. The claim names the jobs whose attempts are
-- parked in its worker. Those of them that may go on are found by their ids, and take their places among the jobs that
-- begin. Only these are limited by tokens and holds.

-- Of jobs that may begin, and parked ones, as many as there is room for, in order; how many of them begin, and the key of
-- the last of these. served: the last key of which this worker took a job, if keys take turns.
create function {schema}.with_parked(
    picked bigint[], parked bigint[], room bigint, per_key bigint, running jsonb,
    caps bigint[], cap_names text[], cap_numbers bigint[], served text,
    out ids bigint[], out keys text[], out begins boolean[], out beginning bigint, out last_begun text
) language plpgsql stable as $$
#variable_conflict use_column
begin
with of_key as (
    select j.*, row_number() over (partition by j.key order by j.schedule_at, j.id) as nth
      from unnest(picked || parked) p(id)
     cross join lateral (
           select j.id, j.name, coalesce(j.limit_key, '') as key, j.schedule_at
             from {schema}.job j where j.id = p.id offset 0) j
),
of_cap as (
    select k.*, case when served is not null then k.nth end as round,
           case when served is not null then (k.key <= served)::integer || k.key end as place,
           c.cap, row_number() over (partition by c.cap order by
               case when served is not null then k.nth end,
               case when served is not null then (k.key <= served)::integer || k.key end,
               k.schedule_at, k.id) as nth_of_cap
      from of_key k left join unnest(cap_names, cap_numbers) c(name, cap) on c.name = k.name
     where k.nth <= per_key - coalesce((running->>k.key)::bigint, 0)
),
taken as (
    select t.*, row_number() over (order by t.round, t.place, t.schedule_at, t.id) as number
      from of_cap t where t.cap is null or t.nth_of_cap <= caps[t.cap]
     order by number limit room
)
select coalesce(array_agg(t.id order by t.number), '{}'), coalesce(array_agg(t.key order by t.number), '{}'),
       array_agg(t.id <> all(parked) order by t.number), count(*) filter (where t.id <> all(parked)),
       (array_agg(t.key order by t.number desc) filter (where t.id <> all(parked)))[1]
  into ids, keys, begins, beginning, last_begun
  from taken t;
end
$$;

-- See 0004_limits.
create or replace function {schema}.claim_limited(
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
    paying bigint[] := '{}';
    -- Jobs that go on (design/limits.md, "Rates"): those of them that may, and their priorities.
    parked bigint[] := '{}';
    parked_levels bigint[] := '{}';
    parked_here bigint[];
    is_held boolean := false;
    -- How many more jobs may begin, and how many of those for which there is room.
    to_begin bigint := 1::bigint << 40;
    begin_room bigint;
    new_begins boolean[];
    beginning bigint;
    last_begun text;
    served text := coalesce(ask->>'served', '');
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
        is_held := true;
        to_begin := 0;
    end if;
    if is_paused or is_held and coalesce(ask->'parked', '[]') = '[]' or ended < 0
       or low is not null and stored_key is null
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
        to_begin := least(to_begin, greatest(floor((tokens + ahead * rate[1]) / rate[2]), 0));
    end if;
    if rate is not null or key_rate is not null then
        room := least(room, starting);
    end if;
    if room > 0 and coalesce(ask->'parked', '[]') <> '[]' then
        select coalesce(array_agg(j.id), '{}'), coalesce(array_agg(j.priority), '{}') into parked, parked_levels
          from jsonb_array_elements_text(ask->'parked') p(id)
         cross join lateral (select j.* from {schema}.job j where j.id = p.id::bigint offset 0) j
         where j.queue = of_queue and j.state in ('scheduled', 'available', 'retryable') and j.schedule_at <= now
           and j.lease > 0 and j.worker = of_worker and j.cancel_reason is null
           and j.name = any(names || cap_names) and {schema}.fits(j.name, j.version, j.unfit, fits)
           and (low is null or j.limit_key >= low and j.limit_key < high)
           and (j.flags & 72 = 0 or {schema}.may_start(j.id, j.flags, j.started_at is not null));
    end if;
    if cardinality(parked) = 0 then
        room := least(room, to_begin);
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
        if to_begin > 0 then
            select j.priority into level from {schema}.job j
             where j.queue = of_queue and j.state in ('scheduled', 'available', 'retryable') and j.priority < level
             order by j.priority desc limit 1;
            exit when not found;
        else
            select max(p.its_level) into level from unnest(parked_levels) p(its_level) where p.its_level < level;
            exit when level is null;
        end if;
        if capped then
            open_names := names || array(
                select u.name from unnest(cap_names, cap_numbers) u(name, cap) where caps[u.cap] > 0);
            exit when cardinality(open_names) = 0;
        end if;
        begin_room := least(room, to_begin);

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
                              and (j.lease is null or j.lease < 0 or j.worker = of_worker and j.cancel_reason is null
                                                                     and j.id <> all(parked))
                              and (j.flags & 72 = 0 or {schema}.may_start(j.id, j.flags, j.started_at is not null))
                            order by j.schedule_at, j.id
                            limit greatest(least(s.most, begin_room), 0)) k
                     order by k.schedule_at, k.id
                     limit begin_room) p;
            if cardinality(parked) > 0 then
                parked_here := array(
                    select p.id from unnest(parked, parked_levels) p(id, its_level)
                     where p.its_level = level and p.id <> all(ids));
                select m.ids, m.beginning into new_ids, beginning
                  from {schema}.with_parked(
                       new_ids, parked_here, room, per_key, '{}', caps, cap_names, cap_numbers, null) m;
                to_begin := to_begin - beginning;
            else
                to_begin := to_begin - cardinality(new_ids);
            end if;
            ids := ids || new_ids;
            room := room - cardinality(new_ids);
        else
            in_turns := fair;
            walked := null;
            if many and not fair and begin_room > 0 then
                -- The first due jobs, in order. Whatever keys they have, no more are looked at.
                seen := 2 * begin_room + 200;
                with walk as materialized (
                    select j.id, j.name, j.limit_key, j.schedule_at from {schema}.job j
                     where j.queue = of_queue and j.state in ('scheduled', 'available', 'retryable')
                       and j.priority = level and j.schedule_at <= now and j.name = any(open_names)
                       and {schema}.fits(j.name, j.version, j.unfit, fits) and j.id <> all(ids)
                       and (j.lease is null or j.lease < 0 or j.worker = of_worker and j.cancel_reason is null
                                                              and j.id <> all(parked))
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
                     limit begin_room
                )
                select (select count(*) from walk), (select l.wait from lane l),
                       coalesce(array_agg(p.id), '{}'), coalesce(array_agg(p.limit_key), '{}')
                  into walked, new_wait, new_ids, new_keys from picked p;
                wait := least(wait, new_wait);
                beginning := cardinality(new_ids);
                last_begun := new_keys[beginning];
                if cardinality(parked) > 0 then
                    parked_here := array(
                        select p.id from unnest(parked, parked_levels) p(id, its_level)
                         where p.its_level = level and p.id <> all(ids));
                    select m.* into new_ids, new_keys, new_begins, beginning, last_begun
                      from {schema}.with_parked(
                           new_ids, parked_here, room, per_key, running, caps, cap_names, cap_numbers,
                           case when in_turns then served end) m;
                    served := coalesce(new_keys[cardinality(new_keys)], served);
                end if;
                to_begin := to_begin - beginning;
                ids := ids || new_ids;
                room := room - cardinality(new_ids);
                select running || coalesce(jsonb_object_agg(
                           k.key, coalesce((running->>k.key)::bigint, 0) + k.number), '{}'),
                       taken || coalesce(jsonb_object_agg(
                           k.key, coalesce((taken->>k.key)::bigint, 0) + k.begun), '{}')
                  into running, taken
                  from (select n.key, count(*) as number, count(*) filter (where n.begins is not false) as begun
                          from unnest(new_keys, new_begins) n(key, begins) group by n.key) k;
                begin_room := least(room, to_begin);
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
                if begin_room = 0 then
                    keys := '{}';
                elsif in_turns then
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
                jobs := case when in_turns then 1 + begin_room / greatest(cardinality(keys), 1) else begin_room end;
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
                                  and (j.lease is null or j.lease < 0 or j.worker = of_worker and j.cancel_reason is null
                                                                         and j.id <> all(parked))
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
                         limit begin_room
                    )
                    select (select min(l.wait) from lane l),
                           coalesce((select bool_or(k.nth >= jobs and k.free > jobs) from of_key k), false),
                           coalesce(array_agg(p.id), '{}'), coalesce(array_agg(p.key), '{}')
                      into new_wait, full_lanes, new_ids, new_keys from picked p;
                    exit when cardinality(new_ids) >= begin_room or not full_lanes;
                    jobs := 8 * jobs;
                end loop;
                wait := least(wait, new_wait);
                beginning := cardinality(new_ids);
                last_begun := new_keys[beginning];
                if cardinality(parked) > 0 then
                    parked_here := array(
                        select p.id from unnest(parked, parked_levels) p(id, its_level)
                         where p.its_level = level and p.id <> all(ids));
                    select m.* into new_ids, new_keys, new_begins, beginning, last_begun
                      from {schema}.with_parked(
                           new_ids, parked_here, room, per_key, running, caps, cap_names, cap_numbers,
                           case when in_turns then served end) m;
                    served := coalesce(new_keys[cardinality(new_keys)], served);
                end if;
                to_begin := to_begin - beginning;
                ids := ids || new_ids;
                room := room - cardinality(new_ids);
                if in_turns then
                    last_key := coalesce(
                        last_begun, case when room > 0 then keys[cardinality(keys)] end, last_key);
                    if cardinality(keys) >= most and room > 0 then
                        wait := least(wait, 100000);
                    end if;
                end if;
                select running || coalesce(jsonb_object_agg(
                           k.key, coalesce((running->>k.key)::bigint, 0) + k.number), '{}'),
                       taken || coalesce(jsonb_object_agg(
                           k.key, coalesce((taken->>k.key)::bigint, 0) + k.begun), '{}')
                  into running, taken
                  from (select n.key, count(*) as number, count(*) filter (where n.begins is not false) as begun
                          from unnest(new_keys, new_begins) n(key, begins) group by n.key) k;
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
                                  and (j.lease is null or j.lease < 0 or j.worker = of_worker and j.cancel_reason is null
                                                                         and j.id <> all(parked))
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
              from (select i.id, case when p.pays then greatest(
                        ceil((row_number() over (partition by p.pays order by i.place) * rate[2] - tokens) / rate[1]),
                        ceil((row_number() over (partition by p.pays, j.limit_key order by i.place) * key_rate[2]
                              - {schema}.bucket_parts(b.parts, b.at, b.unit, now, key_rate)) / key_rate[1]),
                        0) else 0 end as micros
                      from unnest(ids) with ordinality i(id, place)
                      join {schema}.job j on j.id = i.id
                     cross join lateral (select coalesce(j.lease, 0) <= 0 as pays) p
                      left join {schema}.bucket b
                             on key_rate is not null and b.queue = of_queue and b.key = j.limit_key
                     where j.id = any(new_ids)) o;
            -- A parked attempt goes on with the token that it has taken. Its row has a lease, until the update below.
            paying := array(select j.id from {schema}.job j where j.id = any(new_ids) and coalesce(j.lease, 0) <= 0);
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
            perform {schema}.take_tokens(of_queue, array[''], array[cardinality(paying)::bigint], now, rate);
        end if;
        if key_rate is not null then
            perform {schema}.take_tokens(
                of_queue, array_agg(k.limit_key), array_agg(k.number), now, key_rate)
               from (select j.limit_key, count(*) as number from {schema}.job j
                      where j.id = any(paying) group by j.limit_key) k
             having count(*) > 0;
        end if;
    else
        new_ids := '{}';
    end if;
    if rate is not null and tokens is not null and not is_held
       and floor((tokens + ahead * rate[1]) / rate[2])
           <= (select count(*) from unnest(new_ids) n(id) where n.id <> all(parked)) then
        wait := least(wait, {schema}.bucket_wait(
            tokens - cardinality(paying) * rate[2] + ahead * 2 / 3 * rate[1], rate));
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
        'at', (extract(epoch from now) * 1000000)::bigint, 'cut', cut, 'many', many, 'turn', last_key, 'served', served,
        'undeclared', low is not null and stored_key is null,
        'started', least(starting, cardinality(new_ids)),
        'held_back', held_back,
        'starts', starts, 'begun', begun, 'keys', keys_of,
        'next_due', least(extract(epoch from due - now), wait / 1000000))::text, null::{schema}.job;
end
$$;
