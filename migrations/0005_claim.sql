-- Why: taking runs from the queue, resuming the ones that are due, and giving up leases. Locks: none. Old engines: none.

-- Moves what has arrived for leased runs into their journals, as delivered at p_at. p_seqs[i] is the next free seq of p_runs[i].
create function stepwell.deliver(p_ws int, p_runs uuid[], p_seqs int[], p_turns int[], p_at timestamptz)
returns table (run_id uuid, seq int, at timestamptz, type text, key text, data text)
language sql as $$
  with arrived as (
    delete from stepwell.inbox i
    where i.ws = p_ws and i.run_id = any(p_runs)
    returning i.run_id, i.generation, i.key, i.arrived_at, i.ord, i.type, i.event_id, i.data
  ), live as (
    -- what is late from an earlier generation is dropped
    select a.*, r.first_seq, r.turn
    from arrived a
    join unnest(p_runs, p_seqs, p_turns) as r(id, first_seq, turn) on r.id = a.run_id
    cross join lateral (
      select from stepwell.runs where runs.ws = p_ws and runs.id = a.run_id and runs.generation = a.generation offset 0
    ) alive
  )
  insert into stepwell.journal as j (ws, run_id, generation, seq, turn, at, type, key, settles, event_id, data)
  select p_ws, run_id, generation,
    first_seq + row_number() over (partition by run_id order by arrived_at, ord)::int - 1,
    turn, p_at, type, nullif(key, stepwell.cancel_key()), type not in ('step_due', 'cancel_requested'), event_id, data
  from live
  returning j.run_id, j.seq, j.at, j.type, j.key, j.data
$$;

-- Leases up to p_limit runnable runs of one workspace to a worker and returns their journals, what arrived included:
-- one row per entry, in order. May commit asynchronously: a claim lost in a crash of the server is claimed again, and
-- its token is worth nothing. p_from_ms (Unix milliseconds): begin at runs that became runnable then, null for the first;
-- what has been taken is dead and in the way until vacuum comes, and it cannot come while a snapshot is open.
create function stepwell.claim(p_ws int, p_limit int, p_worker uuid, p_token bigint, p_from_ms double precision)
returns table (
  run_id uuid, function text, function_version int, generation int, turn int, trouble text, parent_id uuid, parent_ws int, parent_key text, parent_generation int,
  wants_undo boolean, status text, tags text, created_at timestamptz, version bigint, now_ms double precision,
  ready_at timestamptz, seq int, entry_turn int, at timestamptz, type text, key text, saw int, data text
)
language plpgsql
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_mergejoin = off
as $$
declare
  v_runs uuid[];
  v_version bigint;
  v_now_ms double precision;
  v_from timestamptz := coalesce(to_timestamp(p_from_ms / 1000), '-infinity');
begin
  perform set_config('synchronous_commit', 'off', true);
  -- served by queue_runnable; `= any(array)` and never `from cte`: the generic plan of the join form scans the table
  v_runs := array(
    select q.run_id from stepwell.queue q
    where q.ws = p_ws and q.owner is null and q.ready_at >= v_from
    order by q.ready_at, q.run_id
    limit p_limit
    for update skip locked);
  if cardinality(v_runs) = 0 then
    return;
  end if;
  update stepwell.queue q
  set owner = p_worker, token = p_token, claimed_at = clock_timestamp(), again = false
  where q.ws = p_ws and q.run_id = any(v_runs);

  if exists (select from stepwell.inbox i where i.ws = p_ws and i.run_id = any(v_runs)) then
    perform stepwell.deliver(p_ws, array_agg(r.id), array_agg(r.next_seq), array_agg(r.next_turn), clock_timestamp())
    from (
      select runs.id, runs.turns_settled + 1 as next_turn, (
        select max(j.seq) + 1 from stepwell.journal j
        where j.ws = p_ws and j.run_id = runs.id and j.generation = runs.generation) as next_seq
      from stepwell.runs
      where runs.ws = p_ws and runs.id = any(v_runs)
    ) r;
  end if;

  v_version := (select w.version from stepwell.workspaces w where w.ws = p_ws);
  v_now_ms := extract(epoch from clock_timestamp()) * 1000;
  return query
    select r.id, r.function, r.version, r.generation, r.turns_settled + 1, r.trouble, r.parent_id, r.parent_ws, r.parent_key, r.parent_generation,
      r.wants_undo, r.status, r.tags, r.created_at, v_version, v_now_ms,
      q.ready_at, j.seq, j.turn, j.at, j.type, j.key, j.saw, j.data
    from unnest(v_runs) as claimed(id)
    cross join lateral (select * from stepwell.queue where ws = p_ws and queue.run_id = claimed.id offset 0) q
    cross join lateral (select * from stepwell.runs where ws = p_ws and runs.id = claimed.id offset 0) r
    cross join lateral (
      select * from stepwell.journal
      where ws = p_ws and journal.run_id = r.id and journal.generation = r.generation
      offset 0
    ) j
    order by q.ready_at, q.run_id, j.seq;
end $$;

-- Resumes runs whose waits are due. One process at a time per workspace. p_from_ms (Unix milliseconds): begin at waits that
-- are due then, null for the first. `next_ms`: until the next one, null for none; `left_from_ms`: no wait is left before.
create function stepwell.fire_timers(
  p_ws int, p_limit int, p_from_ms double precision, out fired int, out next_ms double precision, out left_from_ms double precision
)
language plpgsql
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_mergejoin = off
as $$
declare
  -- not in the statement: an index does not serve a comparison with a function that may change from row to row
  v_now timestamptz := clock_timestamp();
  v_from timestamptz := coalesce(to_timestamp(p_from_ms / 1000), '-infinity');
  v_next timestamptz;
  v_runs uuid[];
  v_keys text[];
begin
  fired := 0;
  -- Nobody is told of it before the run's next entries are on disk, and these then are too. Lost in a crash of the server, it
  -- is fired again.
  perform set_config('synchronous_commit', 'off', true);
  if pg_try_advisory_xact_lock(p_ws, -1) then
    -- An app may be at work on its first turn and have left nothing yet: whether that is a start shows when the turn ends.
    update stepwell.waits w set due_at = v_now + interval '1 second'
    where w.ws = p_ws and w.due_at >= v_from and w.due_at <= v_now and w.kind = 'deadline' and w.event = 'start_timeout'
      and exists (select from stepwell.queue q where q.ws = p_ws and q.run_id = w.run_id and q.owner is not null)
      and not stepwell.has_started(p_ws, w.run_id);
    -- served by waits_due
    select array_agg(run_id order by due_at, opened_at, ord), array_agg(key order by due_at, opened_at, ord) into v_runs, v_keys
    from (
      select run_id, key, due_at, opened_at, ord from stepwell.waits
      where ws = p_ws and due_at >= v_from and due_at <= v_now
      order by due_at
      limit p_limit
    ) due;
    if v_runs is not null then
      perform stepwell.wake(p_ws, v_runs);
      fired := stepwell.take_waits(p_ws, v_runs, v_runs, v_keys, null,
        array_fill(null::uuid, array[cardinality(v_runs)]), array_fill(null::text, array[cardinality(v_runs)]));
    end if;
  end if;
  select due_at into v_next from stepwell.waits where ws = p_ws and due_at >= v_from order by due_at limit 1;
  next_ms := extract(epoch from v_next - clock_timestamp()) * 1000;
  left_from_ms := extract(epoch from least(v_next, v_now)) * 1000;
end $$;

-- Frees the runs of workers without a heartbeat for p_lease_ms.
create function stepwell.reap(p_ws int, p_lease_ms double precision) returns int
language plpgsql
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_mergejoin = off
as $$
declare
  v_dead uuid[];
  v_freed int;
begin
  -- served by queue_owned; the comparison says no more than `is not null`, but makes this index the one to take
  v_dead := array(
    select o.owner from (
      select distinct owner from stepwell.queue where ws = p_ws and owner >= '00000000-0000-0000-0000-000000000000'
    ) o
    where not exists (
      select from stepwell.workers w
      where w.id = o.owner and w.heartbeat_at > clock_timestamp() - make_interval(secs => p_lease_ms / 1000)));
  if cardinality(v_dead) = 0 then
    return 0;
  end if;
  -- skip locked: a row that somebody else is changing is looked at next time, and nobody waits for us
  update stepwell.queue set owner = null, token = null, claimed_at = null
  where ws = p_ws and run_id = any(array(
    select run_id from stepwell.queue
    where ws = p_ws and owner = any(v_dead)
    order by run_id
    for update skip locked));
  get diagnostics v_freed = row_count;
  return v_freed;
end $$;

-- Hands back everything that one worker holds: at the end of a drain.
create function stepwell.release(p_ws int, p_worker uuid) returns int
language plpgsql
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_mergejoin = off
as $$
declare
  v_freed int;
begin
  update stepwell.queue set owner = null, token = null, claimed_at = null
  where ws = p_ws and run_id = any(array(
    select run_id from stepwell.queue where ws = p_ws and owner = p_worker order by run_id for update));
  get diagnostics v_freed = row_count;
  return v_freed;
end $$;
