select c.name, c.spec, c.paused, c.last_tick at time zone 'UTC', c.created_at at time zone 'UTC'
  from {schema}.cron c order by c.name collate "C"
