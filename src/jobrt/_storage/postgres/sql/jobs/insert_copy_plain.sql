-- Jobs that are due at once and have no options of their own: as most are, in bulk. The rest are the table's defaults.
copy {schema}.job (id, priority, max_attempts, queue, name, args) from stdin
