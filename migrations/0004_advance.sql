-- Why: everything that a report or the end of a turn writes, for many runs at once, fenced by their tokens.
-- Locks: none. Old engines: none.

-- p_run_ arrays are parallel, one row per run. p_entry_run, p_wait_run: index into them, from 1.
--   step: 'running'  the turn goes on: record, deliver what has arrived, keep the lease
--         'waiting'  the turn is settled; the run leaves the queue unless something has arrived
--         'continue' the turn is settled and the next should follow
--         'trouble'  the app did not answer as it should: send the same turn again after resend_ms
--         'done'     the run has ended
-- Returns, per run, one row (entry_seq null): status ok, requeued (runnable again now) or stale; next_seq the seq of the first entry that was not
-- delivered but asked for here; and one row per entry that was delivered from the inbox.
create function stepwell.advance(
  p_ws int,
  p_run_id uuid[], p_run_token bigint[], p_run_generation int[], p_run_turn int[], p_run_seq int[], p_run_step text[],
  p_run_trouble text[], p_run_resend_ms double precision[], p_run_clear boolean[],
  p_run_state text[], p_run_attempts int[], p_run_output text[], p_run_error text[],
  p_run_outcome text[], p_run_ready timestamptz[], p_run_sent real[], p_run_first_byte real[], p_run_ended real[], p_run_replay real[],
  p_entry_run int[], p_entry_type text[], p_entry_key text[], p_entry_saw int[], p_entry_settles boolean[],
  p_entry_started real[], p_entry_duration real[], p_entry_data text[],
  p_wait_run int[], p_wait_key text[], p_wait_kind text[], p_wait_due timestamptz[], p_wait_event text[], p_wait_hash uuid[],
  p_sent_events text[]
) returns table (run int, status text, next_seq int, now timestamptz, entry_seq int, entry_type text, entry_key text, entry_data text)
language plpgsql as $$
#variable_conflict use_column
declare
  v_now timestamptz;
  v_ok boolean[];
  v_again boolean[];
  v_claimed timestamptz[];
  v_before int[];
  v_deliver int[];
  v_i int;
  v_matched int;
  v_late boolean := false;
begin
  if cardinality(p_wait_hash) > 0 or cardinality(p_sent_events) > 0 then
    perform stepwell.lock_names(p_ws, p_sent_events, array(select e from unnest(p_wait_event) e where e is not null));
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

  -- What arrived comes before what this report brings.
  v_deliver := array(select i::int from unnest(v_ok, v_again, p_run_step) with ordinality as r(ok, again, step, i)
    where ok and again and step = 'running');
  if cardinality(v_deliver) > 0 then
    for run, entry_seq, entry_type, entry_key, entry_data in
      select r.i, d.seq, d.type, d.key, d.data
      from stepwell.deliver(p_ws,
        array(select p_run_id[i] from unnest(v_deliver) i), array(select p_run_seq[i] from unnest(v_deliver) i),
        array(select p_run_turn[i] from unnest(v_deliver) i)) d
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
    where v_ok[w.run];
    if cardinality(array_remove(p_wait_hash, null)) > 0 then
      v_matched := stepwell.look_back(p_ws, p_run_id, v_ok, p_wait_run, p_wait_key, p_wait_hash);
      if v_matched > 0 then
        v_late := true;
        select array_agg(coalesce(q.again, false) order by r.i) into v_again
        from unnest(p_run_id) with ordinality as r(id, i)
        left join stepwell.queue q on q.ws = p_ws and q.run_id = r.id;
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
          array(select p_run_turn[i] from unnest(v_deliver) i)) d
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

  perform stepwell.settle(p_ws, v_now, v_ok, v_again, v_claimed, p_run_id, p_run_generation, p_run_turn, p_run_step,
    p_run_trouble, p_run_resend_ms, p_run_clear, p_run_state, p_run_attempts, p_run_output, p_run_error,
    p_run_outcome, p_run_ready, p_run_sent, p_run_first_byte, p_run_ended, p_run_replay);

  for v_i in 1..cardinality(p_run_id) loop
    run := v_i;
    status := case when not v_ok[v_i] then 'stale'
      when p_run_step[v_i] = 'continue' or (p_run_step[v_i] = 'waiting' and v_again[v_i]) then 'requeued'
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
    -- event_keys has its own primary key for this; the checks run only for events that match
    select array_agg(run_id order by e.received_at, e.id), array_agg(key order by e.received_at, e.id),
      array_agg(e.id order by e.received_at, e.id),
      array_agg(stepwell.event_json(e.wire_id, e.name, e.data, e.ts) order by e.received_at, e.id)
    into v_runs, v_keys, v_ids, v_data
    from (
      select distinct on (found.run_id, found.event_id) found.*
      from (
        select w.i, p_run_id[w.run] as run_id, w.key, early.event_id, early.received_at
        from unnest(p_wait_run, p_wait_key, p_wait_hash) with ordinality as w(run, key, hash, i)
        join stepwell.runs r on r.ws = p_ws and r.id = p_run_id[w.run]
        cross join lateral (
          select k.event_id, k.received_at
          from stepwell.event_keys k
          where k.ws = p_ws and k.hash = w.hash and k.received_at >= r.created_at
            and not stepwell.has_event(p_ws, r.id, k.event_id)
            -- a fan-out on its way is for the wait that was opened before it
            and not exists (
              select from stepwell.fanouts f
              join stepwell.waits older on older.ws = p_ws and older.run_id = r.id and older.hash = f.hash
                and older.opened_at <= f.received_at
              where f.ws = p_ws and f.hash = k.hash and f.received_at = k.received_at and f.event_id = k.event_id)
          order by k.received_at, k.event_id
          limit 1
        ) early
        where p_ok[w.run] and w.hash is not null
          and exists (select from stepwell.waits open
            where open.ws = p_ws and open.run_id = r.id and open.key = w.key and open.kind = 'event')
      ) found
      order by found.run_id, found.event_id, found.i
    ) first
    join stepwell.events e on e.ws = p_ws and e.id = first.event_id and e.received_at = first.received_at;
    exit when v_runs is null;
    perform stepwell.wake(p_ws, v_runs);
    v_total := v_total + stepwell.take_waits(p_ws, v_runs, v_runs, v_keys, false, v_ids, v_data);
  end loop;
  return v_total;
end $$;

-- The end of turns: what becomes of the queue row, the run and its waits.
create function stepwell.settle(
  p_ws int, p_now timestamptz, p_ok boolean[], p_again boolean[], p_claimed timestamptz[],
  p_run_id uuid[], p_run_generation int[], p_run_turn int[], p_run_step text[],
  p_run_trouble text[], p_run_resend_ms double precision[], p_run_clear boolean[],
  p_run_state text[], p_run_attempts int[], p_run_output text[], p_run_error text[],
  p_run_outcome text[], p_run_ready timestamptz[], p_run_sent real[], p_run_first_byte real[], p_run_ended real[], p_run_replay real[]
) returns void
language plpgsql as $$
declare
  v_leave uuid[];
  v_requeue uuid[];
  v_done uuid[];
  v_settled uuid[];
  v_clear uuid[];
begin
  select
    array_agg(id) filter (where step = 'done' or step = 'trouble' or (step = 'waiting' and not again)),
    array_agg(id) filter (where step = 'continue' or (step = 'waiting' and again)),
    array_agg(id) filter (where step = 'done'),
    array_agg(id) filter (where step in ('continue', 'waiting')),
    array_agg(id) filter (where clear and step <> 'trouble')
  into v_leave, v_requeue, v_done, v_settled, v_clear
  from unnest(p_run_id, p_run_step, p_ok, p_again, p_run_clear) as r(id, step, ok, again, clear)
  where ok;

  if v_settled is not null then
    -- not in place of the queue's fence, but so that the next turn has the next number
    update stepwell.runs set turns_settled = turns_settled + 1
    where ws = p_ws and id = any(v_settled);
  end if;
  if v_clear is not null then
    -- the app answers again; the resend may still be open when something else has woken the run before it
    update stepwell.runs set trouble = null where ws = p_ws and id = any(v_clear) and trouble is not null;
    delete from stepwell.waits where ws = p_ws and run_id = any(v_clear) and key = '';
  end if;
  if v_requeue is not null then
    update stepwell.queue set owner = null, token = null, claimed_at = null, again = false, ready_at = p_now
    where ws = p_ws and run_id = any(v_requeue);
  end if;

  if 'trouble' = any(p_run_step) then
    update stepwell.runs r set trouble = t.trouble
    from unnest(p_run_id, p_run_step, p_run_trouble, p_ok) as t(id, step, trouble, ok)
    where r.ws = p_ws and r.id = t.id and t.ok and t.step = 'trouble';
    insert into stepwell.waits (ws, run_id, key, generation, kind, due_at, opened_at)
    select p_ws, t.id, '', t.generation, 'resend', p_now + make_interval(secs => t.resend_ms / 1000), p_now
    from unnest(p_run_id, p_run_generation, p_run_step, p_run_resend_ms, p_ok) as t(id, generation, step, resend_ms, ok)
    where t.ok and t.step = 'trouble'
    on conflict (ws, run_id, key) do update set due_at = excluded.due_at, opened_at = excluded.opened_at;
  end if;

  if v_done is not null then
    with ended as (
      delete from stepwell.runs where ws = p_ws and id = any(v_done)
      returning id, function, generation, created_at
    )
    insert into stepwell.runs_done (ws, id, function, generation, state, attempts, created_at, finished_at, output, error)
    select p_ws, r.id, r.function, r.generation, t.state, t.attempts, r.created_at, p_now, t.output, t.error
    from ended r
    join unnest(p_run_id, p_run_state, p_run_attempts, p_run_output, p_run_error) as t(id, state, attempts, output, error) on t.id = r.id;
    delete from stepwell.waits where ws = p_ws and run_id = any(v_done);
    delete from stepwell.inbox where ws = p_ws and run_id = any(v_done);
  end if;
  if v_leave is not null then
    delete from stepwell.queue where ws = p_ws and run_id = any(v_leave);
  end if;

  insert into stepwell.turns (ws, run_id, generation, turn, settled_at, outcome, runnable_at, claimed_at, sent_ms, first_byte_ms, ended_ms, replay_ms)
  select p_ws, id, generation, turn, p_now, outcome, ready, claimed, sent, first_byte, ended, replay
  from unnest(p_run_id, p_run_generation, p_run_turn, p_run_step, p_ok, p_claimed, p_run_outcome, p_run_ready, p_run_sent,
    p_run_first_byte, p_run_ended, p_run_replay)
    as t(id, generation, turn, step, ok, claimed, outcome, ready, sent, first_byte, ended, replay)
  where ok and step <> 'running';
end $$;
