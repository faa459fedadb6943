-- Why: runs that start runs, ends that others wait for, cancelling, and generations: the rare parts of advance().
-- Locks: none. Old engines: none.

-- Runs in the making: their rows, their first entries, their places in the queue.
create function stepwell.start_runs(
  p_now timestamptz, p_ws int[], p_id uuid[], p_function text[], p_version int[], p_event text[],
  p_parent uuid[], p_parent_ws int[], p_parent_key text[], p_parent_generation int[], p_cancelled_with boolean[]
) returns void
language sql as $$
  with lives as (
    insert into stepwell.runs (
      ws, id, function, version, created_at, parent_id, parent_ws, parent_key, parent_generation, cancelled_with_parent)
    select ws, id, function, version, p_now, parent, parent_ws, parent_key, parent_generation, cancelled_with
    from unnest(p_ws, p_id, p_function, p_version, p_parent, p_parent_ws, p_parent_key, p_parent_generation, p_cancelled_with)
      as t(ws, id, function, version, parent, parent_ws, parent_key, parent_generation, cancelled_with)
  ), begun as (
    insert into stepwell.journal (ws, run_id, generation, seq, turn, at, type, settles, data)
    select ws, id, 1, 1, 1, p_now, 'run_started', false, event from unnest(p_ws, p_id, p_event) as t(ws, id, event)
  )
  insert into stepwell.queue (ws, run_id, ready_at) select ws, id, p_now from unnest(p_ws, p_id) as t(ws, id)
$$;

-- The children that runs of a batch invoke; `ws` null: in their own workspace.
create function stepwell.start_children(
  p_ws int, p_now timestamptz, p_ok boolean[], p_run_id uuid[], p_run_generation int[], p_starts json
) returns void
language sql as $$
  update stepwell.runs r
  set children_ws = array(select distinct w from unnest(coalesce(r.children_ws, '{}') || s.wss) w order by w)
  from (
    select p_run_id[run] as id, array_agg(distinct ws) as wss
    from json_to_recordset(p_starts) as t(run int, ws int)
    where p_ok[run] and ws is not null
    group by run
  ) s
  where r.ws = p_ws and r.id = s.id;

  select stepwell.start_runs(p_now, array_agg(coalesce(ws, p_ws)), array_agg(id), array_agg(function), array_agg(version),
    array_agg(event), array_agg(p_run_id[run]), array_agg(case when ws is not null then p_ws end), array_agg(key),
    array_agg(p_run_generation[run]), array_agg(cancelled_with))
  from json_to_recordset(p_starts)
    as s(run int, ws int, id uuid, function text, version int, event text, key text, cancelled_with boolean)
  where p_ok[run]
  having count(*) > 0
$$;

-- The functions that follow a failure or a cancellation. Before the end: the first entry is still the run's.
create function stepwell.follow_ends(p_ws int, p_now timestamptz, p_ok boolean[], p_run_id uuid[], p_follow json) returns void
language sql as $$
  select stepwell.start_runs(p_now, array_agg(p_ws), array_agg(f.id), array_agg(f.function), array_agg(f.version),
    array_agg(f.head || j.data || f.tail), array_agg(p_run_id[f.run]), array_agg(null::int), array_agg(null::text),
    array_agg(null::int), array_agg(false))
  from json_to_recordset(p_follow) as f(run int, id uuid, function text, version int, head text, tail text)
  cross join lateral (
    select data from stepwell.journal
    where ws = p_ws and run_id = p_run_id[f.run] and seq = 1
      and generation = (select generation from stepwell.runs where ws = p_ws and id = p_run_id[f.run])
    offset 0
  ) j
  where p_ok[f.run]
  having count(*) > 0
$$;

-- What ended here goes to the waits of the parents that are still open for it, in the generation that asked. The caller
-- holds the parents' queue rows. Returns how many were told.
create function stepwell.tell_parents(p_ws int, p_now timestamptz, p_ok boolean[], p_parents json) returns int
language plpgsql as $$
declare
  v_told int;
begin
  if p_parents is null then
    return 0;
  end if;
  with ends as (
    select run, coalesce(ws, p_ws) as ws, parent, key, generation, type, data
    from json_to_recordset(p_parents) as e(run int, ws int, parent uuid, key text, generation int, type text, data text)
    where p_ok[run]
  ), taken as (
    delete from stepwell.waits
    where ctid = any(array(
      select open.ctid
      from ends
      cross join lateral (
        select w.ctid from stepwell.waits w
        where w.ws = ends.ws and w.run_id = ends.parent and w.key = ends.key and w.generation = ends.generation and w.kind = 'child'
        offset 0
        for update
      ) open))
    returning ws, run_id, key, generation
  )
  insert into stepwell.inbox (ws, run_id, key, generation, arrived_at, ord, type, data)
  select taken.ws, taken.run_id, taken.key, taken.generation, p_now, ends.run, ends.type, ends.data
  from taken
  join ends on ends.parent = taken.run_id and ends.key = taken.key and ends.generation = taken.generation;
  get diagnostics v_told = row_count;
  return v_told;
end $$;

-- What runs say of themselves: whether they want to be undone, their status, their tags.
create function stepwell.note_said(p_ws int, p_ok boolean[], p_run_id uuid[], p_said json) returns void
language plpgsql as $$
declare
  v_said record;
begin
  for v_said in
    select p_run_id[run] as id, undo, status, tags
    from json_to_recordset(p_said) as s(run int, undo boolean, status text, tags json)
    where p_ok[run]
  loop
    update stepwell.runs set
      wants_undo = wants_undo or coalesce(v_said.undo, false),
      status = case when v_said.status is null then status else nullif(v_said.status, 'null') end,
      tags = case when v_said.tags is null then tags else nullif(v_said.tags::text, '{}') end
    where ws = p_ws and id = v_said.id;
    if v_said.tags is not null then
      perform stepwell.set_tags(p_ws, v_said.id, v_said.tags);
    end if;
  end loop;
end $$;

-- These tags and no others.
create function stepwell.set_tags(p_ws int, p_run uuid, p_tags json) returns void
language sql as $$
  with wanted as materialized (
    select key as name, value from json_each_text(p_tags)
  ), gone as (
    delete from stepwell.run_tags where ws = p_ws and run_id = p_run and name not in (select name from wanted)
  )
  insert into stepwell.run_tags (ws, run_id, name, value)
  select p_ws, p_run, name, value from wanted
  on conflict (ws, run_id, name) do update set value = excluded.value where run_tags.value <> excluded.value
$$;

-- The tags that runs start with.
create function stepwell.begin_tags(p_ws int, p_ok boolean[], p_tags json) returns void
language plpgsql as $$
declare
  v_run record;
begin
  for v_run in
    select coalesce(ws, p_ws) as ws, id, tags from json_to_recordset(p_tags) as t(run int, ws int, id uuid, tags json)
    where p_ok[run]
  loop
    update stepwell.runs set tags = v_run.tags::text where ws = v_run.ws and id = v_run.id;
    perform stepwell.set_tags(v_run.ws, v_run.id, v_run.tags);
  end loop;
end $$;

-- Waits that may end the runs that start here: events that cancel them, and time-outs.
create function stepwell.open_watches(p_ws int, p_now timestamptz, p_ok boolean[], p_watches json) returns void
language sql as $$
  insert into stepwell.waits (ws, run_id, key, generation, kind, due_at, event, hash, opened_at)
  select coalesce(ws, p_ws), id, key, 1, kind, p_now + make_interval(secs => due_ms / 1000), event, hash, p_now
  from json_to_recordset(p_watches)
    as w(run int, ws int, id uuid, key text, kind text, due_ms double precision, event text, hash uuid)
  where p_ok[run]
$$;

-- The hash of a signal's name, as the engine makes it.
create function stepwell.signal_hash(p_name text) returns uuid
language sql stable as $$
  select substr(encode(sha256(convert_to('["signal",' || to_json(p_name) || ']', 'utf8')), 'hex'), 1, 32)::uuid
$$;

-- Remembers which events runs have had, before their journals go: the last thousand of each. Waits look back no further than
-- to what is forgotten.
create function stepwell.remember_taken(p_ws int, p_runs uuid[]) returns void
language plpgsql as $$
begin
  insert into stepwell.taken_events (ws, run_id, event_id, at)
  select p_ws, j.run_id, j.event_id, j.at from stepwell.journal j
  where j.ws = p_ws and j.run_id = any(p_runs) and j.event_id is not null
  on conflict do nothing;
  with forgotten as (
    delete from stepwell.taken_events t
    using (
      select run_id, event_id, row_number() over (partition by run_id order by at desc, event_id desc) as place
      from stepwell.taken_events where ws = p_ws and run_id = any(p_runs)
    ) old
    where t.ws = p_ws and t.run_id = old.run_id and t.event_id = old.event_id and old.place > 1000
    returning t.run_id, t.at
  )
  update stepwell.runs r set looks_back_to = f.at
  from (select run_id, max(at) as at from forgotten group by run_id) f
  where r.ws = p_ws and r.id = f.run_id;
end $$;

-- The next generation of runs: an empty journal but for the event that it starts with. What had arrived and was not delivered
-- goes back to where it came from; what is still to come for the old generation finds no wait and is dropped. Time-outs and
-- cancelling events are about the run and stay.
create function stepwell.begin_generations(
  p_ws int, p_now timestamptz, p_ok boolean[], p_run_id uuid[], p_run_generation int[], p_next json
) returns void
language plpgsql as $$
declare
  v_runs uuid[];
  v_events text[];
  v_versions int[];
begin
  select array_agg(p_run_id[run]), array_agg(event), array_agg(version) into v_runs, v_events, v_versions
  from json_to_recordset(p_next) as n(run int, event text, version int)
  where p_ok[run];
  if v_runs is null then
    return;
  end if;
  -- messages and events that reached the run and that its handler has not had
  delete from stepwell.journal j
  using (
    select p_run_id[run] as id, key from json_to_recordset(p_next) as n(run int, unread json), json_array_elements_text(n.unread) key
    where p_ok[run]
  ) u
  where j.ws = p_ws and j.run_id = u.id and j.key = u.key and j.type = 'wait_matched';
  -- Signals that were given out and not had: delivered ones first, then those that were still to be delivered. They came before
  -- what lies in the buffer of their name, and go before it again. Their names are those of the waits that asked for them:
  -- nobody else's JSON is parsed here.
  with given as (
    select j.run_id, j.key, j.event_id, j.data, 1 as place, j.seq::bigint as ord
    from json_to_recordset(p_next) as n(run int, unread json)
    cross join json_array_elements_text(n.unread) as u(key)
    cross join lateral (
      select * from stepwell.journal
      where ws = p_ws and run_id = p_run_id[n.run] and key = u.key and type = 'signal_received' and settles
      offset 0
    ) j
    where p_ok[n.run]
    union all
    select i.run_id, i.key, i.event_id, i.data, 2, row_number() over (order by i.arrived_at, i.ord)
    from stepwell.inbox i
    where i.ws = p_ws and i.run_id = any(v_runs) and i.type = 'signal_received'
  ), named as (
    select g.*, stepwell.signal_hash(w.data::json->>'signal') as hash
    from given g
    cross join lateral (
      select data from stepwell.journal
      where ws = p_ws and run_id = g.run_id and key = g.key and type = 'signal_awaited'
      offset 0
    ) w
  )
  insert into stepwell.signals (ws, run_id, hash, received_at, id, data)
  select p_ws, run_id, hash,
    coalesce((select min(s.received_at) from stepwell.signals s where s.ws = p_ws and s.run_id = named.run_id and s.hash = named.hash), p_now)
      - interval '1 millisecond' * row_number() over (partition by run_id, hash order by place desc, ord desc),
    event_id, data
  from named
  on conflict do nothing;
  delete from stepwell.inbox where ws = p_ws and run_id = any(v_runs) and type <> 'cancel_requested';
  delete from stepwell.waits where ws = p_ws and run_id = any(v_runs) and kind not in ('cancel', 'deadline');
  perform stepwell.remember_taken(p_ws, v_runs);
  -- bounded: a run that goes on for years keeps one generation
  delete from stepwell.journal where ws = p_ws and run_id = any(v_runs);
  delete from stepwell.turns where ws = p_ws and run_id = any(v_runs);
  update stepwell.runs set generation = generation + 1, turns_settled = 0, wants_undo = false, trouble = null,
    version = v_versions[array_position(v_runs, id)]
  where ws = p_ws and id = any(v_runs);
  update stepwell.waits w set generation = w.generation + 1 where ws = p_ws and run_id = any(v_runs);
  update stepwell.inbox i set generation = i.generation + 1 where ws = p_ws and run_id = any(v_runs);
  insert into stepwell.journal (ws, run_id, generation, seq, turn, at, type, settles, data)
  select p_ws, r.id, r.generation, 1, 1, p_now, 'run_started', false, n.event
  from unnest(v_runs, v_events) as n(id, event)
  cross join lateral (select id, generation from stepwell.runs where ws = p_ws and runs.id = n.id offset 0) r;
end $$;

-- Asks runs to end. Returns those that are live: they have been asked, now or before.
create function stepwell.ask_to_cancel(p_ws int, p_run_id uuid[], p_by text, p_message text) returns uuid[]
language plpgsql
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_mergejoin = off
as $$
declare
  v_live uuid[];
begin
  perform stepwell.wake(p_ws, p_run_id);
  v_live := array(select id from stepwell.runs where ws = p_ws and id = any(p_run_id));
  insert into stepwell.inbox (ws, run_id, key, generation, arrived_at, type, data)
  select p_ws, r.id, stepwell.cancel_key(), r.generation, clock_timestamp(), 'cancel_requested', stepwell.cancel_reason(p_by, p_message)
  from unnest(v_live) as live(id)
  cross join lateral (select id, generation from stepwell.runs where ws = p_ws and runs.id = live.id offset 0) r
  on conflict do nothing;
  delete from stepwell.queue q
  where q.ws = p_ws and q.run_id = any(p_run_id) and not q.run_id = any(v_live);
  return v_live;
end $$;

-- One batch of the children of one cancelled run. Returns how many were asked, and whether more is to do.
create function stepwell.walk_cancelled(p_ws int, p_limit int, out asked int, out more boolean)
language plpgsql
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_mergejoin = off
as $$
declare
  v_parent uuid;
  v_children uuid[];
begin
  asked := 0;
  more := false;
  if not pg_try_advisory_xact_lock(p_ws, -3) then
    return;
  end if;
  select run_id into v_parent from stepwell.cancelled_parents where ws = p_ws order by run_id limit 1;
  if not found then
    return;
  end if;
  more := true;
  v_children := array(
    select id from stepwell.runs
    where ws = p_ws and parent_id = v_parent and cancelled_with_parent
    order by id
    limit p_limit);
  if cardinality(v_children) = 0 then
    delete from stepwell.cancelled_parents where ws = p_ws and run_id = v_parent;
    return;
  end if;
  asked := cardinality(stepwell.ask_to_cancel(p_ws, v_children, 'parent', 'The run that invoked this one was cancelled.'));
  -- asked once, and found no more
  update stepwell.runs set cancelled_with_parent = false where ws = p_ws and id = any(v_children);
end $$;
