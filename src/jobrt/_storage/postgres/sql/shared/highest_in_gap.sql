-- The highest priority with waiting jobs in each gap between the known ones: one index probe per gap.
select g.scan, g.low,
       (select j.priority from {schema}.job j
         where j.queue = :queue and j.state in ('scheduled', 'available', 'retryable')
           and j.priority < g.high and j.priority > g.low
         order by j.priority desc limit 1)
  from unnest(:gap_scan::integer[], :gap_high::bigint[], :gap_low::bigint[]) g(scan, high, low)
