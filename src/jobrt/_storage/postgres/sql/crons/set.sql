update {schema}.cron c set paused = coalesce(:paused::boolean, c.paused), spec = coalesce(:spec, c.spec)
 where c.name = :name
returning c.name
