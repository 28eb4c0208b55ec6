-- Asked before anything else of a database that may be empty.
select to_regclass(:table) is not null
