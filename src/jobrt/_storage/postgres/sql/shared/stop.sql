-- Why a job is asked to stop.
case when j.flags & 128 <> 0 then 'timeout' when j.flags & 32 <> 0 then 'parent' else 'operator' end
