-- In sessions that take plans as they come, such as those of operators, a search for any living member of a job read the
-- table from its beginning: past the 100,000 of another job it took 80 ms.
alter function {schema}.close_scope() set enable_seqscan = off;
alter function {schema}.end_member() set enable_seqscan = off;
alter function {schema}.end_members(bigint[]) set enable_seqscan = off;
alter function {schema}.decide_closing(bigint) set enable_seqscan = off;
