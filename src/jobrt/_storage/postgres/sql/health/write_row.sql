insert into {schema}.queue (name) values (:name)
