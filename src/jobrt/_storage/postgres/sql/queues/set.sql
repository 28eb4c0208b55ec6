insert into {schema}.queue as q (name, paused, concurrency)
values (:name, coalesce(:paused::boolean, false), :concurrency::integer)
    on conflict (name) do update
   set paused = coalesce(:paused::boolean, q.paused),
       concurrency = case when :set_concurrency::boolean then excluded.concurrency else q.concurrency end
