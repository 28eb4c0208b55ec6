UPDATE jobrt_cron SET paused = coalesce(:paused, paused), spec = coalesce(:spec, spec) WHERE name = :name;
