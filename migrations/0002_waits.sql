-- Why: waking runs, and giving events to the waits they satisfy. Locks: none. Old engines: none.
--
-- Order of locks, in every function of this schema: event names (advisory), then senders' event ids by id, then queue rows
-- by run id, then the rest. Whoever wants to change what belongs to a run holds its queue row, and looks again when he does.
-- Accepting events holds the names shared, opening event waits holds them alone, both until the commit. So one of the
-- two always sees the other, and no event falls between a wait's look back and its registration.
-- plpgsql takes a fresh snapshot for each statement: what follows a lock sees what the lock waited for.
--
-- Plans. The functions that the engine calls are planned once per connection, for any parameters. Statistics of an idle
-- hour, or of two tables at different times, must not lead such a plan to read a table through: sequential scans and
-- merge joins are off, and a table is read in one of two ways: `ws = … and key = any(array)`, alone in its query, or
-- `cross join lateral (… offset 0)`, which the planner cannot turn into another join, by a full key. The first needs
-- statistics that are not far off: refresh_statistics() sees to that.

-- Names share 256 locks: how many a batch needs is bounded, however many names it has. Numbers below zero are for loops.
create function stepwell.lock_names(p_ws int, p_shared text[], p_alone text[]) returns void
language plpgsql as $$
declare
  v_name record;
begin
  for v_name in
    select h, bool_or(alone) as alone
    from (
      select hashtext(n) & 255 as h, false as alone from unnest(p_shared) n
      union all
      select hashtext(n) & 255, true from unnest(p_alone) n
    ) names
    group by h
    order by h
  loop
    if v_name.alone then
      perform pg_advisory_xact_lock(p_ws, v_name.h);
    else
      perform pg_advisory_xact_lock_shared(p_ws, v_name.h);
    end if;
  end loop;
end $$;

-- `stable`, as to_json is: declared immutable it could not be inlined.
create function stepwell.event_json(p_id text, p_name text, p_data text, p_ts text) returns text
language sql stable as $$
  select '{"id":' || to_json(p_id) || ',"name":' || to_json(p_name) || ',"data":' || p_data || ',"ts":"' || p_ts || '"}'
$$;

-- Whether a run has had an event already: as its start, or through a wait.
create function stepwell.has_event(p_ws int, p_run uuid, p_event uuid) returns boolean
language sql stable as $$
  select exists (select from stepwell.inbox where ws = p_ws and run_id = p_run and event_id = p_event)
    or exists (select from stepwell.journal where ws = p_ws and run_id = p_run and event_id = p_event)
    or exists (select from stepwell.taken_events where ws = p_ws and run_id = p_run and event_id = p_event)
$$;

-- Makes runs runnable and locks their queue rows, in order of run id. A row that is there gets `again`, so that its holder
-- looks once more; a row without it was made here, and take_waits() takes it back when it was made for nothing.
create function stepwell.wake(p_ws int, p_runs uuid[]) returns void
language sql as $$
  insert into stepwell.queue (ws, run_id, ready_at)
  select p_ws, run_id, clock_timestamp()
  from (select distinct unnest(p_runs) as run_id) runs
  order by run_id
  on conflict (ws, run_id) do update set again = true
$$;

-- The key under which a run's inbox holds the wish that it ends: no key of an op has a control character.
create function stepwell.cancel_key() returns text
language sql immutable as $$
  select E'\x01cancel'
$$;

create function stepwell.cancel_reason(p_by text, p_message text) returns text
language sql stable as $$
  select '{"by":' || to_json(p_by) || ',"message":' || to_json(p_message) || '}'
$$;

-- Whether an app has begun with the run, as far as is recorded: a turn of it has ended, or has left something.
create function stepwell.has_started(p_ws int, p_run uuid) returns boolean
language sql stable as $$
  select exists (select from stepwell.runs where ws = p_ws and id = p_run and (turns_settled > 0 or generation > 1))
    or exists (select from stepwell.journal where ws = p_ws and run_id = p_run and seq > 1)
$$;

-- Takes the waits p_keys of p_runs (parallel arrays, in order of arrival) that are still open: those of p_kinds, or (null)
-- those that are due. Puts what arrived into the inboxes. wake(p_woken) must have come first: it holds the queue rows, so no
-- run here can end meanwhile.
create function stepwell.take_waits(
  p_ws int, p_woken uuid[], p_runs uuid[], p_keys text[], p_kinds text[], p_event_ids uuid[], p_data text[]
) returns int
language plpgsql as $$
declare
  v_now timestamptz := clock_timestamp();
  v_taken int;
  v_resumed uuid[];
begin
  with taken as (
    -- locked first, so that a row cannot move away from its ctid; with `ws` here the planner could read by that instead
    delete from stepwell.waits
    where ctid = any(array(
      select open.ctid
      from unnest(p_runs, p_keys) as wanted(run_id, key)
      cross join lateral (
        select w.ctid
        from stepwell.waits w
        where w.ws = p_ws and w.run_id = wanted.run_id and w.key = wanted.key
          and (p_kinds is not null or w.due_at <= v_now)
          and (p_kinds is null or w.kind = any(p_kinds))
        offset 0
        for update
      ) open))
    returning run_id, key, generation, kind, event
  ), kept as (
    -- a time-out for the start says nothing to a run that has started
    select * from taken
    where kind <> 'deadline' or event <> 'start_timeout' or not stepwell.has_started(p_ws, run_id)
  ), arrived as (
    insert into stepwell.inbox (ws, run_id, key, generation, arrived_at, ord, type, event_id, data)
    select p_ws, kept.run_id, case when kept.kind in ('cancel', 'deadline') then stepwell.cancel_key() else kept.key end,
      kept.generation, v_now, wanted.ord,
      case when kept.kind in ('cancel', 'deadline') then 'cancel_requested'
        when wanted.event_id is not null and kept.kind = 'signal' then 'signal_received'
        when wanted.event_id is not null then 'wait_matched'
        when kept.kind = 'sleep' then 'sleep_completed'
        when kept.kind = 'event' then 'wait_expired'
        when kept.kind = 'signal' then 'signal_expired'
        when kept.kind = 'child' then 'child_expired'
        else 'step_due' end,
      case when kept.kind <> 'cancel' then wanted.event_id end,
      case kept.kind
        when 'cancel' then stepwell.cancel_reason('event', format('The event "%s" came, by which the function says that it is cancelled.', kept.event))
        when 'deadline' then stepwell.cancel_reason(kept.event,
          case kept.event when 'start_timeout' then 'The run did not start in the time that its function gives it.'
            else 'The run did not finish in the time that its function gives it.' end)
        else wanted.data end
    from kept
    join unnest(p_runs, p_keys, p_event_ids, p_data) with ordinality as wanted(run_id, key, event_id, data, ord)
      on wanted.run_id = kept.run_id and wanted.key = kept.key
    where kept.kind <> 'resend'
    -- an app that reports the next attempt before it was due: one note of it is enough
    on conflict do nothing
  )
  select count(*), array_agg(distinct run_id) into v_taken, v_resumed from kept;
  -- between the look and the lock the run has ended, or another has taken what was wanted
  if cardinality(p_woken) > coalesce(cardinality(v_resumed), 0) then
    delete from stepwell.queue
    where ws = p_ws and run_id = any(p_woken) and owner is null and not again
      and not run_id = any(coalesce(v_resumed, '{}'));
  end if;
  return v_taken;
end $$;

-- Gives arriving events (event p_keys_event[i] has hash p_hashes[i]) to the open waits they satisfy: each event to at most
-- one wait of a run, the one opened first. When there are more than p_max_wakes, the events become fan-outs, and so does
-- every event behind a fan-out of the same hash: none overtakes another.
create function stepwell.match_waits(
  p_ws int, p_received_at timestamptz, p_event_ids uuid[], p_events text[],
  p_keys_event int[], p_hashes uuid[], p_max_wakes int
) returns int
language plpgsql as $$
declare
  v_open bigint;
  v_now_hashes uuid[];
  v_later uuid[];
  v_woken uuid[];
  v_runs uuid[] := '{}';
  v_keys text[] := '{}';
  v_events int[] := '{}';
  v_next_runs uuid[];
  v_next_keys text[];
  v_next_events int[];
begin
  -- served by waits_by_hash; `= any(array)` and no join, so that a generic plan keeps using the index
  select count(*) into v_open
  from (select from stepwell.waits where ws = p_ws and hash = any(p_hashes) limit p_max_wakes + 1) open_waits;
  if v_open = 0 then
    return 0;
  end if;
  if v_open > p_max_wakes then
    v_later := p_hashes;
  else
    v_later := array(select distinct hash from stepwell.fanouts where ws = p_ws and hash = any(p_hashes));
  end if;
  if cardinality(v_later) > 0 then
    insert into stepwell.fanouts (ws, hash, received_at, event_id)
    select p_ws, k.hash, p_received_at, p_event_ids[k.event]
    from unnest(p_keys_event, p_hashes) as k(event, hash)
    where k.hash = any(v_later)
    on conflict do nothing;
  end if;
  v_now_hashes := array(select distinct h from unnest(p_hashes) h where not h = any(v_later));
  v_woken := array(select distinct run_id from stepwell.waits where ws = p_ws and hash = any(v_now_hashes));
  if cardinality(v_woken) = 0 then
    return 0;
  end if;
  perform stepwell.wake(p_ws, v_woken);

  -- Only what is open under the lock counts: another event may just have taken the first of two waits. New waits for
  -- these names cannot have come, their names are locked. The n-th event of a hash goes to a run's n-th wait for it. An
  -- event that fits several of them goes to the one opened first, and what follows it is dealt anew.
  loop
    with open_waits as (
      select w.run_id, w.key, w.hash, w.opened_at, w.ord,
        -- neither the event that starts the run cancels it, nor one before that
        case when w.kind = 'cancel' then (
          select j.event_id from stepwell.journal j
          where j.ws = p_ws and j.run_id = w.run_id and j.seq = 1
          order by j.generation
          limit 1) end as started_by,
        row_number() over (partition by w.run_id, w.hash order by w.opened_at, w.ord) as rank
      from stepwell.waits w
      where w.ws = p_ws and w.run_id = any(v_woken) and w.hash = any(v_now_hashes)
        and not exists (select from unnest(v_runs, v_keys) as t(run_id, key) where t.run_id = w.run_id and t.key = w.key)
    ), left_over as (
      select run_id, hash, event, row_number() over (partition by run_id, hash order by event) as rank
      from (
        -- of each hash no more events than the run can take, behind the one that starts it in this transaction
        select o.run_id, o.hash, unnest(k.events[1 + o.passed:o.passed + o.waits + coalesce(given.events, 0)]) as event
        from (
          select w.run_id, w.hash, count(*) as waits,
            coalesce(max((select count(*) from unnest(p_keys_event, p_hashes) as p(event, hash)
              where p.hash = w.hash and p.event <= array_position(p_event_ids, w.started_by))), 0) as passed
          from open_waits w group by w.run_id, w.hash
        ) o
        join (
          select hash, array_agg(event order by event) as events
          from unnest(p_keys_event, p_hashes) as t(event, hash)
          group by hash
        ) k on k.hash = o.hash
        left join (select run_id, count(*) as events from unnest(v_runs) as run_id group by run_id) given on given.run_id = o.run_id
      ) e
      where not exists (select from unnest(v_runs, v_events) as t(run_id, event) where t.run_id = e.run_id and t.event = e.event)
    ), pairs as (
      select w.run_id, w.key, e.event, w.opened_at, w.ord, count(*) over (partition by w.run_id, e.event) as wanted
      from open_waits w
      join left_over e on e.run_id = w.run_id and e.hash = w.hash and e.rank = w.rank
    )
    select array_agg(run_id order by event, run_id), array_agg(key order by event, run_id), array_agg(event order by event, run_id)
    into v_next_runs, v_next_keys, v_next_events
    from (
      select distinct on (run_id, event) run_id, key, event
      from (select *, min(event) filter (where wanted > 1) over (partition by run_id) as contested from pairs) p
      where contested is null or event <= contested
      order by run_id, event, opened_at, ord
    ) next;
    exit when v_next_runs is null;
    v_runs := v_runs || v_next_runs;
    v_keys := v_keys || v_next_keys;
    v_events := v_events || v_next_events;
  end loop;
  return stepwell.take_waits(p_ws, v_woken, v_runs, v_keys, array['event', 'cancel'],
    array(select p_event_ids[e] from unnest(v_events) with ordinality as t(e, i) order by i),
    array(select p_events[e] from unnest(v_events) with ordinality as t(e, i) order by i));
end $$;
