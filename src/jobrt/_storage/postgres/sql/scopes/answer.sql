-- The first call for a wait decides its limit.
insert into {schema}.answer as a (job_id, number, until, kind, name)
values (:id::bigint, :number::bigint,
        coalesce(:at::timestamptz, statement_timestamp() + make_interval(secs => :seconds::double precision)),
        :kind, :name)
    on conflict (job_id, kind, name, number) do update set name = excluded.name
returning a.ended, a.value, extract(epoch from a.until - statement_timestamp())::double precision
