-- The ids of the picked jobs, in order, as long as their texts have no more bytes than a claim may have. The first
-- job is always one of them. Nearly always it is all of them: then their order does not matter.
case when (select sum(p.size) from picked p) <= 16777216 then array(select p.id from picked p)
     else array(select s.id
                  from (select p.id, p.size, sum(p.size) over (rows unbounded preceding) as total from picked p) s
                 where s.total <= 16777216 or s.total = s.size) end
