-- Why: statistics that follow the tables. Locks: share update exclusive on one table at a time. Old engines: none.

-- Analyses the table that has outgrown its statistics the most, if there is one, and returns its name. Autovacuum does so
-- a minute late: until then, calls are planned for tables as empty as they were at night. Analysing also ends the plans
-- that connections keep. A table of less than 1,000 rows may be read through; it does not matter.
create function stepwell.refresh_statistics() returns text
language plpgsql as $$
declare
  v_table regclass;
begin
  if not pg_try_advisory_xact_lock(hashtext('stepwell statistics')) then
    return null;
  end if;
  select oid into v_table
  from pg_class
  where relnamespace = 'stepwell'::regnamespace and relkind = 'r'
    and pg_stat_get_live_tuples(oid) > 1000 + 4 * greatest(reltuples, 0)
  order by pg_stat_get_live_tuples(oid) desc
  limit 1;
  if v_table is not null then
    execute format('analyze (skip_locked) %s', v_table);
  end if;
  -- as text a regclass has its schema or not, by the search path
  return (select relname from pg_class where oid = v_table);
end $$;
