insert into {schema}.queue as q (name, key) values (:queue, :key)
    on conflict (name) do update set key = excluded.key where q.key is distinct from excluded.key
 returning q.name
