-- Ask for the end of these jobs to be told. Locked in the order of ids; one that ends meanwhile is not flagged,
-- and await_states.sql, whose snapshot is newer, sees it final.
update {schema}.job j set flags = (j.flags | 2)::smallint
 where j.finished_at is null and j.flags & 2 = 0
   and j.id = any(array(select p.id from {schema}.job p
                         where p.id = any(:ids::bigint[]) and p.finished_at is null order by p.id for update))
