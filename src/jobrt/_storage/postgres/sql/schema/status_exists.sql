-- Runs before all other statements, on a database that may be empty.
select to_regclass(:table) is not null
