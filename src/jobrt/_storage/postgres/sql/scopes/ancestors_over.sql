-- Whether an ancestor's nursery is being ended.
select not {schema}.may_start(:id::bigint, (8 & :flags::smallint)::smallint, true)
