-- One job without options, the most common insert of all: what is not named here is as the table has it.
insert into {schema}.job (priority, max_attempts, queue, name, args)
values (:priority::integer, :max_attempts::integer, :queue, :name, :args)
returning id, case when :channel::text is not null then pg_notify(:channel, 'j:' || :queue) end
