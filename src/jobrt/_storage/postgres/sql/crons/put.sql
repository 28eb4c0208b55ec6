insert into {schema}.cron as c (name, spec, paused, last_tick)
values (:name, :spec, :paused::boolean, :last_tick::timestamptz)
    on conflict (name) do update set spec = excluded.spec
returning c.name, c.spec, c.paused, case when c.last_tick is not null then greatest(least(c.last_tick, {last_time}), {first_time}) end at time zone 'UTC',
          greatest(least(c.created_at, {last_time}), {first_time}) at time zone 'UTC'
