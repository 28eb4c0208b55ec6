delete from {schema}.cron c where c.name = :name returning c.name
