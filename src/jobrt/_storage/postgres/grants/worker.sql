-- Everything but migrations: work, enqueue, manage jobs and queues.
grant usage on schema {schema} to {role};
grant select, insert, update, delete on all tables in schema {schema} to {role};
revoke insert, update, delete on {schema}.migration from {role};
grant usage on all sequences in schema {schema} to {role};
alter default privileges in schema {schema} grant select, insert, update, delete on tables to {role};
alter default privileges in schema {schema} grant usage on sequences to {role};
grant execute on function {schema}.follow(bigint) to {role};
