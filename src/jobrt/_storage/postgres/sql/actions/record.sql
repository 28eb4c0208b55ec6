-- Numbers are given out in order, so those that are not kept any more are found by the number.
with added as (
    insert into {schema}.action (subject, name, who, what, why)
    values (:subject, :name, :who, :what, :why) returning id
)
delete from {schema}.action a using added n where a.id <= n.id - :kept::bigint
