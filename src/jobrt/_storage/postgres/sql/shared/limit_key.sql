-- A key is a JSON value, so the number 1 and the text "1" differ; a missing key is null.
case :root when 'args' then ({schema}.as_json(j.args) #> :path::text[])::text
           when 'metadata' then ({schema}.as_json(coalesce(j.metadata, '{}')) #> :path::text[])::text
           when 'name' then to_json(j.name)::text end
