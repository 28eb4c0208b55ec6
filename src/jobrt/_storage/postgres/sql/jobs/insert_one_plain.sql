-- One job without options, the most common insert. Columns that are not named get the table's defaults.
insert into {schema}.job (priority, max_attempts, queue, name, args)
values (:priority::integer, :max_attempts::integer, :queue, :name, :args)
returning id, case when :channel::text is not null then pg_notify(:channel, 'j:' || :queue) end
