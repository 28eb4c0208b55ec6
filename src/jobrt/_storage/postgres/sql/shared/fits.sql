-- Whether the worker can read the payload of the job `j`, as `Demand.fits` says: {"name": [highest version, shape], ...}.
-- A case, because the planner knows no statistics of new columns: it would expect no rows.
case when j.version is null and j.unfit is null then true
     else coalesce(j.version, 1) <= coalesce((:fits::text::jsonb -> j.name ->> 0)::integer, 1)
          and (j.unfit is null or j.unfit is distinct from (:fits::text::jsonb -> j.name ->> 1)::bigint) end
