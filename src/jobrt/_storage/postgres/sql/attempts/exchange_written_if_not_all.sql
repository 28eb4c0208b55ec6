case when (select count(*) from ended) <> :sent::bigint then {written}::text end
