-- Several counts, each as in count.sql, in one call.
select array[{counts}]::bigint[]
