update {schema}.job j set flags = (j.flags | :flag::smallint)::smallint
 where j.id = :id::bigint and j.flags & :flag::smallint = 0
