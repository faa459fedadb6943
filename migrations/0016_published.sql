-- Why: messages that runs publish, for those who follow them from outside. Locks: none. Old engines: none.

-- A part of advance(). The caller holds the queue rows, so that what was published before is seen, and nobody else numbers.
create function stepwell.publish(p_ws int, p_now timestamptz, p_ok boolean[], p_run_id uuid[], p_published json) returns void
language plpgsql as $$
begin
  if p_published is null or json_array_length(p_published) = 0 then
    return;
  end if;
  insert into stepwell.published (ws, run_id, seq, channel, at, data)
  select p_ws, p_run_id[m.run], last.seq + row_number() over (partition by m.run order by m.i), m.channel, p_now, m.data
  from (
    select (item->>'run')::int as run, item->>'channel' as channel, item->>'data' as data, i
    from json_array_elements(p_published) with ordinality as t(item, i)
  ) m
  -- served by the primary key, backwards
  cross join lateral (
    select coalesce(max(seq), 0) as seq from stepwell.published where ws = p_ws and run_id = p_run_id[m.run] offset 0
  ) last
  where p_ok[m.run];
end $$;
