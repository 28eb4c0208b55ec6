select a.id, a.at at time zone 'UTC', a.subject, a.name, a.who, a.what, a.why
  from {schema}.action a
 where {about}
 order by a.id desc limit :limit::bigint
