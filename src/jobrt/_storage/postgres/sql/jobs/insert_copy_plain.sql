-- Jobs that are due now and have no options, which is the usual bulk insert, or none but their uniqueness. Other columns
-- get the table's defaults.
copy {schema}.job (id, priority, max_attempts, queue, name, args{more_columns}) from stdin
