insert into {schema}.migration (name) values (:name)
