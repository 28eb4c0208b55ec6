select j.id from {schema}.job j where j.id = any(:ids::bigint[]) order by j.id for update skip locked
