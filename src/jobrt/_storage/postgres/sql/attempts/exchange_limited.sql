-- Write outcomes, and claim under limits for the whole cluster, in one round trip and one commit: see the function, in
-- the migration 0004. It is called when the outcomes are written, and sees them. The first row is about the call.
with {ended},
answer as materialized (
    select a.about, (a.job).*
      from (select count(*) as number from ended) e
     cross join lateral {schema}.claim_limited(
           :ask::jsonb, :names::text[], :cap_names::text[], :cap_numbers::bigint[], :caps::bigint[], :rate::bigint[],
           :key_rate::bigint[], e.number) a
),
claimed as (
    select a.* from answer a where a.about is null
)
(
    select (select count(*) from ended), null::bigint, a.about, 0, 0, 0, {written_if_not_all}, null::bytea, null::bytea,
           null::double precision, null::text, null::text[], {woken}::text, null::text, null::text, null::smallint
      from answer a where a.about is not null
)
union all
select * from (
    {claimed_rows}
) jobs
