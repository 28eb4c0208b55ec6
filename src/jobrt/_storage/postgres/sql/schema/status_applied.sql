select name from {schema}.migration order by name
