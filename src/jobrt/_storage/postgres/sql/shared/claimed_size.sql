-- Bytes of the texts that a claim of the job `j` returns. Large texts are not read for this: their size is in the row.
octet_length(j.args)::bigint + coalesce(octet_length(j.metadata), 0) + coalesce(octet_length(j.context), 0)
    + coalesce(pg_column_size(j.tags), 0)
    + case when j.records > 0 then (
          select coalesce(sum(least(octet_length(a.message), 44000) + least(octet_length(a.traceback), 204000)), 0)
            from {schema}.attempt a where a.job_id = j.id)::bigint else 0 end
    + case when j.flags & 1 <> 0 then coalesce((
          select coalesce(octet_length(d.saved), 0)::bigint + coalesce(octet_length(d.progress), 0)
            from {schema}.detail d where d.job_id = j.id), 0) else 0 end
