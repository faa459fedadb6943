-- Why: everything that a report or the end of a turn writes, for many runs at once, fenced by their tokens.
-- Locks: none. Old engines: none.

-- p_run_ arrays are parallel, one row per run. p_entry_run, p_wait_run: index into them, from 1.
--   step: 'running'  the turn goes on: record, deliver what has arrived, keep the lease
--         'waiting'  the turn is settled; the run leaves the queue unless something has arrived
--         'continue' the turn is settled and the next should follow
--         'trouble'  the app did not answer as it should: send the same turn again after resend_ms
--         'done'     the run has ended
-- p_event_, p_key_, p_start_: the events that these runs send, as ingest() takes them, with p_version; p_sent_run and
-- p_sent_event (parallel) say which run sends which event.
-- p_extra: what few batches bring, as JSON, null for nothing. `run` in it is an index into the runs, from 1:
--   parents [{run, parent, ws, key, generation, type, data}] ends that resume a parent (`ws` null: of this workspace)
--   starts  [{run, ws, id, function, version, event, key, cancelled_with}] children to start; their parent is the run
--   watches [{run, ws, id, key, kind, due_ms, event, hash}]     waits that may end a run; `id` of a run that this batch starts
--   tags    [{run, ws, id, tags}]                          what such a run is found by
--   said    [{run, undo, status, tags}]                    what runs say of themselves
--   published [{run, channel, data}]                       messages to whoever follows the runs, in order
--   next    [{run, event, version}]                        what next generations start with
--   sent    {watches, tags}                                what accept_events() wants about runs that sent events start
--   follow  [{run, id, function, version, head, tail}]              runs that follow an end; head || first event || tail is their event
-- Returns, per run, one row (entry_seq null): status ok, requeued (runnable again now) or stale; next_seq the seq of the
-- first entry that was asked for here; and one row per entry that was delivered from the inbox. No rows at all: there are
-- events, and the caller's idea of the workspace is older than the workspace. Nothing is written; reload and call again.
create function stepwell.advance(
  p_ws int,
  p_run_id uuid[], p_run_token bigint[], p_run_generation int[], p_run_turn int[], p_run_seq int[], p_run_step text[],
  p_run_trouble text[], p_run_resend_ms double precision[], p_run_clear boolean[],
  p_run_state text[], p_run_attempts int[], p_run_output text[], p_run_error text[],
  p_run_outcome text[], p_run_ready timestamptz[], p_run_sent double precision[], p_run_first_byte double precision[], p_run_ended double precision[], p_run_replay double precision[],
  p_entry_run int[], p_entry_type text[], p_entry_key text[], p_entry_saw int[], p_entry_settles boolean[],
  p_entry_started double precision[], p_entry_duration double precision[], p_entry_data text[],
  p_wait_run int[], p_wait_key text[], p_wait_kind text[], p_wait_due timestamptz[], p_wait_event text[], p_wait_hash uuid[],
  p_version bigint, p_sent_run int[], p_sent_event int[],
  p_event_id uuid[], p_event_wire_id text[], p_event_own boolean[], p_event_name text[], p_event_ts text[], p_event_data text[],
  p_key_event int[], p_key_hash uuid[], p_start_id uuid[], p_start_event int[], p_start_function text[], p_start_version int[],
  p_max_wakes int,
  p_extra text
) returns table (run int, status text, next_seq int, now timestamptz, entry_seq int, entry_type text, entry_key text, entry_data text)
language plpgsql
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
  v_extra json := p_extra::json;
  v_now timestamptz;
  v_ok boolean[];
  v_again boolean[];
  v_claimed timestamptz[];
  v_before int[];
  v_deliver int[];
  v_i int;
  v_matched int;
  v_late boolean := false;
  v_fresh boolean[];
  v_targets uuid[] := '{}';
  v_target_ws int[] := '{}';
  v_wakes_later boolean := false;
  v_made uuid[] := '{}';
begin
  if cardinality(p_wait_hash) > 0 or cardinality(p_event_id) > 0 then
    perform stepwell.lock_names(p_ws, p_event_name,
      array(select event from unnest(p_wait_event, p_wait_kind) as w(event, kind) where kind = 'event'));
  end if;
  if cardinality(p_event_id) > 0 then
    if not exists (select from stepwell.workspaces w where w.ws = p_ws and w.version = p_version) then
      return;
    end if;
    v_fresh := stepwell.claim_event_ids(p_ws, p_event_wire_id, p_event_own, p_start_id, p_start_event);
    v_targets := array(select run_id from stepwell.waits where ws = p_ws and hash = any(p_key_hash) limit p_max_wakes + 1);
    v_wakes_later := cardinality(v_targets) > p_max_wakes;
    if v_wakes_later then
      v_targets := '{}';
    end if;
    v_target_ws := array_fill(p_ws, array[cardinality(v_targets)]);
  end if;
  if v_extra is not null then
    select v_target_ws || coalesce(array_agg(coalesce(ws, p_ws)), '{}'), v_targets || coalesce(array_agg(parent), '{}')
    into v_target_ws, v_targets
    from json_to_recordset(v_extra->'parents') as x(parent uuid, ws int);
  end if;
  if cardinality(v_targets) > 0 then
    v_made := stepwell.lock_with_targets(p_ws, p_run_id, v_target_ws, v_targets);
  end if;

  -- The fence. Rows are locked in order of run id, before anything is read that depends on them.
  with locked as (
    select q.run_id, q.token, q.again, q.claimed_at
    from stepwell.queue q
    where q.ws = p_ws and q.run_id = any(p_run_id)
    order by q.run_id
    for update
  )
  select array_agg(coalesce(l.token = r.token, false) order by r.i),
    array_agg(coalesce(l.again, false) order by r.i),
    array_agg(l.claimed_at order by r.i)
  into v_ok, v_again, v_claimed
  from unnest(p_run_id, p_run_token) with ordinality as r(id, token, i)
  left join locked l on l.run_id = r.id;
  v_now := clock_timestamp();
  v_before := array_fill(0, array[cardinality(p_run_id)]);

  -- Parents in this very batch are to see it now.
  if v_extra is not null and stepwell.tell_parents(p_ws, v_now, v_ok, v_extra->'parents') > 0 then
    select array_agg(coalesce(q.again, false) order by r.i) into v_again
    from unnest(p_run_id) with ordinality as r(id, i)
    left join lateral (select again from stepwell.queue where ws = p_ws and run_id = r.id offset 0) q on true;
  end if;

  -- What arrived comes before what this report brings.
  if 'running' = any(p_run_step) and true = any(v_again) then
    v_deliver := array(select i::int from unnest(v_ok, v_again, p_run_step) with ordinality as r(ok, again, step, i)
      where ok and again and step = 'running');
  end if;
  if cardinality(v_deliver) > 0 then
    for run, entry_seq, entry_type, entry_key, entry_data in
      select r.i, d.seq, d.type, d.key, d.data
      from stepwell.deliver(p_ws,
        array(select p_run_id[i] from unnest(v_deliver) i), array(select p_run_seq[i] from unnest(v_deliver) i),
        array(select p_run_turn[i] from unnest(v_deliver) i), v_now) d
      join unnest(v_deliver) as r(i) on p_run_id[r.i] = d.run_id
      order by r.i, d.seq
    loop
      v_before[run] := v_before[run] + 1;
      status := 'ok';
      now := v_now;
      return next;
    end loop;
    update stepwell.queue set again = false
    where ws = p_ws and run_id = any(array(select p_run_id[i] from unnest(v_deliver) i));
  end if;

  if cardinality(p_entry_run) > 0 then
    insert into stepwell.journal (ws, run_id, generation, seq, turn, at, type, key, saw, settles, started_ms, duration_ms, data)
    select p_ws, p_run_id[e.run], p_run_generation[e.run],
      p_run_seq[e.run] + v_before[e.run] + row_number() over (partition by e.run order by e.i)::int - 1,
      p_run_turn[e.run], v_now, e.type, e.key, e.saw, e.settles, e.started, e.duration, e.data
    from unnest(p_entry_run, p_entry_type, p_entry_key, p_entry_saw, p_entry_settles, p_entry_started, p_entry_duration, p_entry_data)
      with ordinality as e(run, type, key, saw, settles, started, duration, data, i)
    where v_ok[e.run];
  end if;

  if cardinality(p_wait_run) > 0 then
    insert into stepwell.waits (ws, run_id, key, generation, kind, due_at, event, hash, opened_at, ord)
    select p_ws, p_run_id[w.run], w.key, p_run_generation[w.run], w.kind, w.due, w.event, w.hash, v_now, w.i
    from unnest(p_wait_run, p_wait_key, p_wait_kind, p_wait_due, p_wait_event, p_wait_hash)
      with ordinality as w(run, key, kind, due, event, hash, i)
    where v_ok[w.run]
    -- an app that reports the next attempt before it was due: the later back-off counts
    on conflict (ws, run_id, key) do update set due_at = excluded.due_at, opened_at = excluded.opened_at;
    if cardinality(array_remove(p_wait_hash, null)) > 0 then
      v_matched := stepwell.look_back(p_ws, p_run_id, v_ok, p_wait_run, p_wait_key, p_wait_hash);
      if 'signal' = any(p_wait_kind) then
        v_matched := v_matched + stepwell.receive_buffered(p_ws, p_run_id, v_ok, p_wait_run, p_wait_key, p_wait_kind, p_wait_hash);
      end if;
      if v_matched > 0 then
        v_late := true;
        select array_agg(coalesce(q.again, false) order by r.i) into v_again
        from unnest(p_run_id) with ordinality as r(id, i)
        left join lateral (select again from stepwell.queue where ws = p_ws and run_id = r.id offset 0) q on true;
      end if;
    end if;
  end if;

  -- Runs whose turn goes on see at once what the look back found; their entries follow what was asked for here.
  if v_late then
    v_deliver := array(select i::int from unnest(v_ok, v_again, p_run_step) with ordinality as r(ok, again, step, i)
      where ok and again and step = 'running');
    if cardinality(v_deliver) > 0 then
      for run, entry_seq, entry_type, entry_key, entry_data in
        select r.i, d.seq, d.type, d.key, d.data
        from stepwell.deliver(p_ws,
          array(select p_run_id[i] from unnest(v_deliver) i),
          array(select p_run_seq[i] + v_before[i] + (select count(*)::int from unnest(p_entry_run) e where e = i) from unnest(v_deliver) i),
          array(select p_run_turn[i] from unnest(v_deliver) i), v_now) d
        join unnest(v_deliver) as r(i) on p_run_id[r.i] = d.run_id
        order by r.i, d.seq
      loop
        status := 'ok';
        now := v_now;
        return next;
      end loop;
      update stepwell.queue set again = false
      where ws = p_ws and run_id = any(array(select p_run_id[i] from unnest(v_deliver) i));
    end if;
  end if;

  if v_extra is not null then
    perform stepwell.follow_ends(p_ws, v_now, v_ok, p_run_id, v_extra->'follow');
    perform stepwell.start_children(p_ws, v_now, v_ok, p_run_id, p_run_generation, v_extra->'starts');
    perform stepwell.note_said(p_ws, v_ok, p_run_id, v_extra->'said');
    perform stepwell.publish(p_ws, v_now, v_ok, p_run_id, v_extra->'published');
  end if;

  perform stepwell.settle(p_ws, v_now, v_ok, v_again, v_claimed, p_run_id, p_run_generation, p_run_turn, p_run_step,
    p_run_trouble, p_run_resend_ms, p_run_clear, p_run_state, p_run_attempts, p_run_output, p_run_error,
    p_run_outcome, p_run_ready, p_run_sent, p_run_first_byte, p_run_ended, p_run_replay);

  if v_extra is not null then
    perform stepwell.begin_generations(p_ws, v_now, v_ok, p_run_id, p_run_generation, v_extra->'next');
    perform stepwell.open_watches(p_ws, v_now, v_ok, v_extra->'watches');
    perform stepwell.begin_tags(p_ws, v_ok, v_extra->'tags');
  end if;
  if v_fresh is not null then
    perform stepwell.send_events(p_ws, v_ok, v_fresh, v_wakes_later, v_extra->'sent', p_sent_run, p_sent_event,
      p_event_id, p_event_wire_id, p_event_own, p_event_name, p_event_ts, p_event_data,
      p_key_event, p_key_hash, p_start_id, p_start_event, p_start_function, p_start_version, p_max_wakes);
  end if;

  -- rows that were made for nothing: a lease was not valid, or somebody else took the wait before the lock
  if cardinality(v_made) > 0 then
    delete from stepwell.queue q
    where q.ws = any(v_target_ws) and q.run_id = any(v_made) and q.owner is null
      and not exists (select from stepwell.inbox i where i.ws = q.ws and i.run_id = q.run_id);
  end if;

  for v_i in 1..cardinality(p_run_id) loop
    run := v_i;
    status := case when not v_ok[v_i] then 'stale'
      when p_run_step[v_i] in ('continue', 'next_generation') or (p_run_step[v_i] = 'waiting' and v_again[v_i]) then 'requeued'
      else 'ok' end;
    next_seq := p_run_seq[v_i] + v_before[v_i];
    now := v_now;
    entry_seq := null;
    entry_type := null;
    entry_key := null;
    entry_data := null;
    return next;
  end loop;
end $$;

-- Locks the queue rows of runs that send events, or end, together with those of the runs that this will wake, in one order:
-- whoever holds some rows and then wants others waits, sooner or later, for somebody who does the same. Returns the runs
-- that were parked: their rows were made here.
create function stepwell.lock_with_targets(p_ws int, p_run_id uuid[], p_target_ws int[], p_targets uuid[]) returns uuid[]
language plpgsql as $$
declare
  v_run uuid;
  v_ws int;
  v_found boolean;
  v_made uuid[] := '{}';
begin
  -- ids of runs are unique beyond their workspaces, so their order is one for all
  for v_run, v_ws in
    select r.id, max(t.ws)
    from (select distinct unnest(p_run_id || p_targets) as id) r
    left join unnest(p_target_ws, p_targets) as t(ws, id) on t.id = r.id
    group by r.id
    order by r.id
  loop
    if v_ws is not null then
      insert into stepwell.queue (ws, run_id, ready_at) values (v_ws, v_run, clock_timestamp())
      on conflict (ws, run_id) do update set again = true
      returning again into v_found;
      if not v_found then
        v_made := v_made || v_run;
      end if;
    else
      perform from stepwell.queue where ws = p_ws and run_id = v_run for update;
    end if;
  end loop;
  return v_made;
end $$;

-- Accepts the events of the runs whose lease was valid, each event once, however many of the runs send it.
create function stepwell.send_events(
  p_ws int, p_ok boolean[], p_fresh boolean[], p_wakes_later boolean, p_extra json, p_sent_run int[], p_sent_event int[],
  p_event_id uuid[], p_event_wire_id text[], p_event_own boolean[], p_event_name text[], p_event_ts text[], p_event_data text[],
  p_key_event int[], p_key_hash uuid[], p_start_id uuid[], p_start_event int[], p_start_function text[], p_start_version int[],
  p_max_wakes int
) returns void
language plpgsql as $$
declare
  v_sent boolean[];
  v_unsent text[];
begin
  select array_agg(is_sent order by event),
    array_agg(p_event_wire_id[event]) filter (where not is_sent and p_fresh[event] and p_event_own[event])
  into v_sent, v_unsent
  from (
    select event, bool_or(p_ok[run]) as is_sent from unnest(p_sent_run, p_sent_event) as s(run, event) group by event
  ) sent;
  if v_unsent is not null then
    delete from stepwell.event_ids where ws = p_ws and own_id = any(v_unsent);
  end if;
  perform stepwell.accept_events(p_ws, array(select f and s from unnest(p_fresh, v_sent) with ordinality as t(f, s, i) order by i),
    p_event_id, p_event_wire_id, p_event_name, p_event_ts, p_event_data,
    p_key_event, p_key_hash, p_start_id, p_start_event, p_start_function, p_start_version, case when p_wakes_later then 0 else p_max_wakes end, null, null, 0, p_extra);
end $$;
