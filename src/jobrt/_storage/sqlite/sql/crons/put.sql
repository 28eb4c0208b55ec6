-- An operator's pause and the last tick are kept when the code registers its spec.
INSERT INTO jobrt_cron (name, spec, paused, last_tick, created_at) VALUES (:name, :spec, :paused, :last_tick, :now)
ON CONFLICT (name) DO UPDATE SET spec = excluded.spec;
