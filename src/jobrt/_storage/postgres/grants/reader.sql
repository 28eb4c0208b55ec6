-- Everything that lists, shows and counts. Payloads and results are among it.
grant usage on schema {schema} to {role};
grant select on all tables in schema {schema} to {role};
alter default privileges in schema {schema} grant select on tables to {role};
grant execute on function {schema}.follow(bigint) to {role};
