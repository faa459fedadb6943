-- Why: events that come to waits later than at their arrival: looking back, and fan-outs. Locks: none. Old engines: none.

-- Gives waits that were just opened the earliest event that their run could have missed: accepted since the run began,
-- not the one that started it, not taken by another of its waits. Repeats while one event was wanted by two of them.
create function stepwell.look_back(
  p_ws int, p_run_id uuid[], p_ok boolean[], p_wait_run int[], p_wait_key text[], p_wait_hash uuid[]
) returns int
language plpgsql as $$
declare
  v_runs uuid[];
  v_keys text[];
  v_ids uuid[];
  v_data text[];
  v_total int := 0;
begin
  loop
    -- event_keys has its own primary key for this; the checks run only for events that match. The n-th event that a run
    -- has missed under a hash goes to its n-th wait for it. An event that fits several goes to the one asked for first,
    -- and those behind the one that lost it look again.
    with open_waits as (
      select w.i, r.id as run_id, w.key, w.hash, r.created_at, row_number() over (partition by r.id, w.hash order by w.i) as rank
      from unnest(p_wait_run, p_wait_key, p_wait_hash) with ordinality as w(run, key, hash, i)
      cross join lateral (
        select runs.id, coalesce(runs.looks_back_to, runs.created_at) as created_at from stepwell.runs
        where runs.ws = p_ws and runs.id = p_run_id[w.run] and p_ok[w.run] and w.hash is not null
        offset 0
      ) r
      cross join lateral (
        select from stepwell.waits
        where waits.ws = p_ws and waits.run_id = r.id and waits.key = w.key and waits.kind = 'event'
        offset 0
      ) still_open
    ), early as (
      select o.run_id, o.hash, k.event_id, k.received_at,
        row_number() over (partition by o.run_id, o.hash order by k.received_at, k.event_id) as rank
      from (
        select run_id, hash, min(created_at) as created_at, count(*) as wanted from open_waits group by run_id, hash
      ) o
      cross join lateral (
        select k.event_id, k.received_at
        from stepwell.event_keys k
        where k.ws = p_ws and k.hash = o.hash and k.received_at >= o.created_at
          and not stepwell.has_event(p_ws, o.run_id, k.event_id)
          -- a fan-out on its way is for the wait that was opened before it
          and not exists (
            select from stepwell.fanouts f
            join stepwell.waits older on older.ws = p_ws and older.run_id = o.run_id and older.hash = f.hash
              and older.opened_at <= f.received_at
            where f.ws = p_ws and f.hash = k.hash and f.received_at = k.received_at and f.event_id = k.event_id)
        order by k.received_at, k.event_id
        limit o.wanted
      ) k
    ), pairs as (
      select o.i, o.run_id, o.key, e.event_id, e.received_at, row_number() over (partition by o.run_id, e.event_id order by o.i) as place
      from open_waits o
      join early e on e.run_id = o.run_id and e.hash = o.hash and e.rank = o.rank
    )
    select array_agg(run_id order by e.received_at, e.id), array_agg(key order by e.received_at, e.id),
      array_agg(e.id order by e.received_at, e.id),
      array_agg(stepwell.event_json(e.wire_id, e.name, e.data, e.ts) order by e.received_at, e.id)
    into v_runs, v_keys, v_ids, v_data
    from (select *, min(i) filter (where place > 1) over (partition by run_id) as lost from pairs) p
    cross join lateral (
      select id, received_at, wire_id, name, ts, data from stepwell.events
      where ws = p_ws and id = p.event_id and received_at = p.received_at
      offset 0
    ) e
    where p.place = 1 and (p.lost is null or p.i < p.lost);
    exit when v_runs is null;
    perform stepwell.wake(p_ws, v_runs);
    v_total := v_total + stepwell.take_waits(p_ws, v_runs, v_runs, v_keys, array['event'], v_ids, v_data);
  end loop;
  return v_total;
end $$;

-- One batch of one fan-out: gives the oldest event in the list to up to p_limit waits that were open before it.
-- Returns how many it woke and whether more is to do.
create function stepwell.walk_fanouts(p_ws int, p_limit int, out woken int, out more boolean)
language plpgsql
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_mergejoin = off
as $$
declare
  v_fanout stepwell.fanouts;
  v_event stepwell.events;
  v_woken uuid[];
  v_runs uuid[];
  v_keys text[];
begin
  woken := 0;
  more := false;
  if not pg_try_advisory_xact_lock(p_ws, -2) then
    return;
  end if;
  select * into v_fanout from stepwell.fanouts where ws = p_ws order by received_at, event_id limit 1;
  if not found then
    return;
  end if;
  more := true;
  -- served by waits_by_hash, in its order: the limit ends the scan
  v_woken := array(
    select w.run_id
    from stepwell.waits w
    where w.ws = p_ws and w.hash = v_fanout.hash and w.opened_at <= v_fanout.received_at
      and not stepwell.has_event(p_ws, w.run_id, v_fanout.event_id)
    order by w.run_id
    limit p_limit);
  if cardinality(v_woken) = 0 then
    delete from stepwell.fanouts
    where ws = p_ws and hash = v_fanout.hash and received_at = v_fanout.received_at and event_id = v_fanout.event_id;
    return;
  end if;
  perform stepwell.wake(p_ws, v_woken);
  -- again, under the lock: a run may have got the event by another of its waits meanwhile
  select array_agg(run_id), array_agg(key) into v_runs, v_keys
  from (
    select distinct on (w.run_id) w.run_id, w.key
    from stepwell.waits w
    where w.ws = p_ws and w.run_id = any(v_woken) and w.hash = v_fanout.hash and w.opened_at <= v_fanout.received_at
      and not stepwell.has_event(p_ws, w.run_id, v_fanout.event_id)
    order by w.run_id, w.opened_at, w.ord
  ) first;
  select * into v_event from stepwell.events
  where ws = p_ws and id = v_fanout.event_id and received_at = v_fanout.received_at;
  woken := stepwell.take_waits(p_ws, v_woken, coalesce(v_runs, '{}'), coalesce(v_keys, '{}'), array['event', 'cancel'],
    array_fill(v_fanout.event_id, array[coalesce(cardinality(v_runs), 0)]),
    array_fill(stepwell.event_json(v_event.wire_id, v_event.name, v_event.data, v_event.ts), array[coalesce(cardinality(v_runs), 0)]));
end $$;
