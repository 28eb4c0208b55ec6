copy {schema}.job (id, schedule_at, created_at, timeout, priority, max_attempts, state, digest,
                   queue, name, args, metadata, tags, context, version, flags{more_columns}) from stdin
