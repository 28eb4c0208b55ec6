-- Children of jobs that were just deleted. None of them is alive.
select m.child_id from {schema}.member m where m.job_id = any(:ids::bigint[]) and m.kind = 'c'
