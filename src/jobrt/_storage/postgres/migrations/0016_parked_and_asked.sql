-- A parked job that is asked to stop is not claimed: its worker ends it under the lease that it has. The statements have
-- this condition in a part that they share. The functions of claims under limits have it in five places of their texts.
do $$
declare
    its_text text;
begin
    for its_text in
        select replace(pg_get_functiondef(p.oid), 'or j.worker = of_worker)',
                       'or j.worker = of_worker and j.cancel_reason is null)')
          from pg_proc p
         where p.pronamespace = (select c.relnamespace from pg_class c where c.oid = '{literal}.job'::regclass)
           and p.prosrc like '%or j.worker = of_worker)%'
    loop
        execute its_text;
    end loop;
end
$$;
