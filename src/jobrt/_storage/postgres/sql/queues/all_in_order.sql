-- For the rest of this transaction: a limited count reads the index in its order and stops. With the planner's own
-- estimates it may read all jobs of a queue and sort them, because it takes queues and priorities for independent.
select set_config(name, 'off', true)
  from unnest(array['enable_bitmapscan', 'enable_seqscan', 'enable_sort', 'jit']) name
