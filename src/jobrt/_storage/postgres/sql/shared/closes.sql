-- Whether the trigger `close_scope` will make the job `j` closing, which this statement has ended. The order is that of
-- the index. Without it, the planner may read the table from its beginning, past all members of others.
(j.flags & 16 <> 0 and j.finished_at is not null
 and (select true from {schema}.living l where l.job_id = j.id order by l.job_id, l.nursery, l.child_id limit 1) is true)
