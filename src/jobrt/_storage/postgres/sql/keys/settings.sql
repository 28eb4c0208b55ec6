-- The queues that have a key. There are few.
select q.name, q.key from {schema}.queue q where q.key is not null
