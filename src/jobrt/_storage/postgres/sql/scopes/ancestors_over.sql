-- Whether an ancestor's nursery is being ended, and whether the job is asked to stop.
select not {schema}.may_start(:id::bigint, (8 & :flags::smallint)::smallint, true),
       (select j.cancel_reason is not null from {schema}.job j where j.id = :id::bigint)
