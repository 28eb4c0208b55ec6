select {schema}.follow(:id::bigint)
