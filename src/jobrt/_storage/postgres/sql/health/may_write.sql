-- Whether the role of this session may change jobs at all: readers and enqueuers may not.
select has_table_privilege(:table, 'update')
