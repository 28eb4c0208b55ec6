-- Stops at the limit: counting ten million rows to show "more than 500" would take seconds.
select count(*) from (select from {schema}.job c where {where} limit :limit::bigint) found
