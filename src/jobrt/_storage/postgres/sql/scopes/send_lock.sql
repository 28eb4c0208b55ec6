-- With the row locked, the job cannot begin to wait between the look and the message.
select j.state::text, j.finished_at is not null from {schema}.job j where j.id = :id::bigint for no key update
