insert into {schema}.cron as c (name, spec, paused, last_tick)
values (:name, :spec, :paused::boolean, :last_tick::timestamptz)
    on conflict (name) do update set spec = excluded.spec
returning c.name, c.spec, c.paused, c.last_tick at time zone 'UTC', c.created_at at time zone 'UTC'
