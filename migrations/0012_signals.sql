-- Why: messages to a run, buffered until one of its waits receives them. Locks: none. Old engines: none.

-- Gives messages (parallel arrays, in order) to their runs: each to the newest wait of its run that is open for that name, or
-- else into the buffer. The newest, because a handler may have abandoned the older ones: in a race, by a time-out.
-- Returns, per message: 'ok', 'ended' (there is no such live run) or 'full' (p_max wait already).
create function stepwell.signal(p_ws int, p_run_id uuid[], p_hash uuid[], p_id uuid[], p_data text[], p_max int) returns text[]
language plpgsql
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_mergejoin = off
as $$
declare
  v_i int;
  v_run uuid;
  v_key text;
  v_status text;
  v_statuses text[] := '{}';
  v_held_run uuid;
  v_held int;
begin
  -- holds the queue rows: no run here can end, and no wait of theirs be opened, before this commits
  perform stepwell.wake(p_ws, p_run_id);
  for v_i in 1..cardinality(p_run_id) loop
    v_run := p_run_id[v_i];
    if not exists (select from stepwell.runs r where r.ws = p_ws and r.id = v_run) then
      v_status := 'ended';
    elsif stepwell.has_event(p_ws, v_run, p_id[v_i])
      or exists (select from stepwell.signals s where s.ws = p_ws and s.run_id = v_run and s.id = p_id[v_i]) then
      v_status := 'ok';
    else
      v_key := null;
      -- served by waits_by_hash
      select w.key into v_key from stepwell.waits w
      where w.ws = p_ws and w.hash = p_hash[v_i] and w.run_id = v_run
      order by w.opened_at desc, w.ord desc
      limit 1;
      -- counted once for a run, not for each of its messages
      if v_key is null and v_held_run is distinct from v_run then
        v_held_run := v_run;
        select count(*) into v_held from (select from stepwell.signals s where s.ws = p_ws and s.run_id = v_run limit p_max) held;
      end if;
      if v_key is not null then
        perform stepwell.take_waits(p_ws, '{}', array[v_run], array[v_key], array['signal'], array[p_id[v_i]], array[p_data[v_i]]);
        v_status := 'ok';
      elsif v_held >= p_max then
        v_status := 'full';
      else
        v_held := v_held + 1;
        insert into stepwell.signals (ws, run_id, hash, received_at, id, data)
        values (p_ws, v_run, p_hash[v_i], clock_timestamp(), p_id[v_i], p_data[v_i]);
        v_status := 'ok';
      end if;
    end if;
    v_statuses := v_statuses || v_status;
  end loop;
  -- rows that wake() made for runs that have nothing to look at
  delete from stepwell.queue q
  where q.ws = p_ws and q.run_id = any(p_run_id) and q.owner is null and not q.again
    and not exists (select from stepwell.inbox i where i.ws = p_ws and i.run_id = q.run_id)
    and (not exists (select from stepwell.runs r where r.ws = p_ws and r.id = q.run_id)
      or exists (select from stepwell.waits w where w.ws = p_ws and w.run_id = q.run_id));
  return v_statuses;
end $$;

-- Gives waits that were just opened the oldest message that lies in their run's buffer. The caller holds the queue rows.
create function stepwell.receive_buffered(
  p_ws int, p_run_id uuid[], p_ok boolean[], p_wait_run int[], p_wait_key text[], p_wait_kind text[], p_wait_hash uuid[]
) returns int
language plpgsql as $$
declare
  v_wait record;
  v_signal record;
  v_received int := 0;
begin
  for v_wait in
    select p_run_id[w.run] as run_id, w.key, w.hash
    from unnest(p_wait_run, p_wait_key, p_wait_kind, p_wait_hash) with ordinality as w(run, key, kind, hash, i)
    where w.kind = 'signal' and p_ok[w.run]
    order by w.i
  loop
    -- served by signals_in_order
    delete from stepwell.signals
    where ws = p_ws and run_id = v_wait.run_id and id = (
      select s.id from stepwell.signals s
      where s.ws = p_ws and s.run_id = v_wait.run_id and s.hash = v_wait.hash
      order by s.hash, s.received_at, s.id
      limit 1)
    returning id, data into v_signal;
    continue when not found;
    perform stepwell.wake(p_ws, array[v_wait.run_id]);
    v_received := v_received + stepwell.take_waits(p_ws, '{}', array[v_wait.run_id], array[v_wait.key], array['signal'],
      array[v_signal.id], array[v_signal.data]);
  end loop;
  return v_received;
end $$;
