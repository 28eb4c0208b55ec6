insert into {schema}.message (job_id, name, key, value) values (:id::bigint, :name, :key, :value)
    on conflict (job_id, name, key) where key is not null do nothing
returning id
