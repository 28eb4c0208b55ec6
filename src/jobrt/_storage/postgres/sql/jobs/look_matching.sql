-- Of some jobs, those that match a filter, and have a text.
select array(select c.id from {schema}.job c where c.id = any(:ids::bigint[]) and {where}{text})
