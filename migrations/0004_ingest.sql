-- Why: accepting events, in one transaction with everything they start and wake. Locks: none. Old engines: none.

-- Accepts events: stores them, starts runs, wakes waits. All arrays that begin with p_event_ are parallel, and so are
-- p_key_ and p_run_; indexes into the events count from 1. An own id occurs once.
-- `stale`: the caller's idea of the workspace is older than the workspace. Nothing is written; reload and call again.
-- `known`: for events whose own id was accepted before, their index and the runs they started then (as uuid, comma).
-- The first p_leases of the runs are leased to p_worker at once: it starts them without a claim.
create function stepwell.ingest(
  p_ws int, p_version bigint,
  p_event_id uuid[], p_event_wire_id text[], p_event_own boolean[], p_event_name text[], p_event_ts text[], p_event_data text[],
  p_key_event int[], p_key_hash uuid[],
  p_run_id uuid[], p_run_event int[], p_run_function text[], p_run_version int[],
  p_max_wakes int, p_worker uuid, p_token bigint, p_leases int, p_extra text,
  out stale boolean, out known_event int[], out known_runs text[], out now_ms double precision
) language plpgsql
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_mergejoin = off
as $$
declare
  v_fresh boolean[];
begin
  perform stepwell.lock_names(p_ws, p_event_name, '{}');
  stale := not exists (select from stepwell.workspaces w where w.ws = p_ws and w.version = p_version);
  if stale then
    return;
  end if;
  v_fresh := stepwell.claim_event_ids(p_ws, p_event_wire_id, p_event_own, p_run_id, p_run_event);
  if false = any(v_fresh) then
    select array_agg(e.i::int order by e.i), array_agg(array_to_string(k.run_ids, ',') order by e.i)
    into known_event, known_runs
    from unnest(p_event_wire_id) with ordinality as e(wire_id, i)
    cross join lateral (
      select run_ids from stepwell.event_ids where ws = p_ws and own_id = e.wire_id and not v_fresh[e.i] offset 0
    ) k;
  end if;
  now_ms := extract(epoch from stepwell.accept_events(p_ws, v_fresh,
    p_event_id, p_event_wire_id, p_event_name, p_event_ts, p_event_data,
    p_key_event, p_key_hash, p_run_id, p_run_event, p_run_function, p_run_version, p_max_wakes, p_worker, p_token, p_leases, p_extra::json)) * 1000;
end $$;

-- Remembers the senders' own ids with the runs that their events will start. Returns, per event, whether it is new: its id
-- was not seen for 24 hours, or it has none of its own. Locks the ids in their order.
create function stepwell.claim_event_ids(
  p_ws int, p_event_wire_id text[], p_event_own boolean[], p_run_id uuid[], p_run_event int[]
) returns boolean[]
language plpgsql as $$
declare
  v_now timestamptz := clock_timestamp();
  v_fresh boolean[];
begin
  if not true = any(p_event_own) then
    return array_fill(true, array[cardinality(p_event_own)]);
  end if;
  -- the insert waits for a concurrent one of the same id, so what it leaves out is committed
  with claimed as (
    insert into stepwell.event_ids as old (ws, own_id, run_ids, at)
    select p_ws, e.wire_id, coalesce(r.ids, '{}'), v_now
    from unnest(p_event_wire_id, p_event_own) with ordinality as e(wire_id, own, i)
    left join (
      select event, array_agg(id order by n) as ids
      from unnest(p_run_id, p_run_event) with ordinality as t(id, event, n) group by event
    ) r on r.event = e.i
    where e.own
    order by e.wire_id
    on conflict (ws, own_id) do update set run_ids = excluded.run_ids, at = excluded.at
      where old.at < v_now - interval '24 hours'
    returning own_id
  )
  select array_agg(not e.own or c.own_id is not null order by e.i) into v_fresh
  from unnest(p_event_wire_id, p_event_own) with ordinality as e(wire_id, own, i)
  left join claimed c on c.own_id = e.wire_id;
  return v_fresh;
end $$;

-- p_extra, in ingest() and here: what few runs have, as JSON, null for nothing. `run` in it is the index of the event that
-- starts the run `id`.
--   watches [{run, id, key, kind, due_ms, event, hash}]  waits that may end it
--   tags    [{run, id, tags}]                            what it is found by
-- Stores the events of which p_fresh says so, starts their runs and gives them to open waits. The caller holds their names.
-- Returns the instant at which they count as received.
create function stepwell.accept_events(
  p_ws int, p_fresh boolean[],
  p_event_id uuid[], p_event_wire_id text[], p_event_name text[], p_event_ts text[], p_event_data text[],
  p_key_event int[], p_key_hash uuid[],
  p_run_id uuid[], p_run_event int[], p_run_function text[], p_run_version int[],
  p_max_wakes int, p_worker uuid, p_token bigint, p_leases int, p_extra json
) returns timestamptz
language plpgsql as $$
declare
  v_now timestamptz := clock_timestamp();
begin
  -- one statement for all four: each costs more than the rows of a small batch
  with received as (
    insert into stepwell.events (ws, received_at, id, wire_id, name, ts, data)
    select p_ws, v_now, id, wire_id, name, ts, data
    from unnest(p_fresh, p_event_id, p_event_wire_id, p_event_name, p_event_ts, p_event_data) as e(fresh, id, wire_id, name, ts, data)
    where fresh
  ), started as materialized (
    select id, event, function, version, i
    from unnest(p_run_id, p_run_event, p_run_function, p_run_version) with ordinality as r(id, event, function, version, i)
    where p_fresh[event]
  ), lives as (
    insert into stepwell.runs (ws, id, function, version, created_at)
    select p_ws, id, function, version, v_now from started
  ), begun as (
    insert into stepwell.journal (ws, run_id, generation, seq, turn, at, type, settles, event_id, data)
    select p_ws, id, 1, 1, 1, v_now, 'run_started', false, p_event_id[event],
      stepwell.event_json(p_event_wire_id[event], p_event_name[event], p_event_data[event], p_event_ts[event])
    from started
  )
  insert into stepwell.queue (ws, run_id, ready_at, owner, token, claimed_at)
  select p_ws, id, v_now, case when i <= p_leases then p_worker end, case when i <= p_leases then p_token end,
    case when i <= p_leases then v_now end
  from started;

  if p_extra is not null then
    perform stepwell.open_watches(p_ws, v_now, p_fresh, p_extra->'watches');
    perform stepwell.begin_tags(p_ws, p_fresh, p_extra->'tags');
  end if;

  if cardinality(p_key_hash) > 0 then
    insert into stepwell.event_keys (ws, hash, received_at, event_id)
    select p_ws, hash, v_now, p_event_id[event]
    from unnest(p_key_event, p_key_hash) as k(event, hash)
    where p_fresh[event]
    on conflict do nothing;
    perform stepwell.match_waits(p_ws, v_now, p_event_id,
      array(select stepwell.event_json(wire_id, name, data, ts)
        from unnest(p_event_wire_id, p_event_name, p_event_data, p_event_ts) with ordinality as e(wire_id, name, data, ts, i)
        order by i),
      array(select event from unnest(p_key_event) with ordinality as k(event, n) where p_fresh[event] order by n),
      array(select hash from unnest(p_key_event, p_key_hash) with ordinality as k(event, hash, n) where p_fresh[event] order by n),
      p_max_wakes);
  end if;
  return v_now;
end $$;
