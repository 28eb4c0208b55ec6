select {column} from {schema}.job c where c.id = :id::bigint
