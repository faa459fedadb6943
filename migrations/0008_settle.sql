-- Why: the end of a turn, a part of advance(). Locks: none. Old engines: none.

-- The end of turns: what becomes of the queue row, the run and its waits. A run may be in the batch twice, under its token
-- and under an old one: whatever looks a run up by its id must ask for p_ok.
create function stepwell.settle(
  p_ws int, p_now timestamptz, p_ok boolean[], p_again boolean[], p_claimed timestamptz[],
  p_run_id uuid[], p_run_generation int[], p_run_turn int[], p_run_step text[],
  p_run_trouble text[], p_run_resend_ms double precision[], p_run_clear boolean[],
  p_run_state text[], p_run_attempts int[], p_run_output text[], p_run_error text[],
  p_run_outcome text[], p_run_ready timestamptz[], p_run_sent double precision[], p_run_first_byte double precision[], p_run_ended double precision[], p_run_replay double precision[]
) returns void
language plpgsql as $$
declare
  v_leave uuid[];
  v_requeue uuid[];
  v_done uuid[];
  v_settled uuid[];
  v_clear uuid[];
  v_in_trouble uuid[];
begin
  select
    array_agg(id) filter (where step = 'done' or (step = 'trouble' and not ends) or (step = 'waiting' and not again)),
    array_agg(id) filter (where step in ('continue', 'next_generation') or (step = 'trouble' and ends) or (step = 'waiting' and again)),
    array_agg(id) filter (where step = 'done'),
    array_agg(id) filter (where step in ('continue', 'waiting')),
    array_agg(id) filter (where clear and step <> 'trouble')
  into v_leave, v_requeue, v_done, v_settled, v_clear
  from unnest(p_run_id, p_run_step, p_ok, p_again, p_run_clear) as r(id, step, ok, again, clear)
  -- a wish that the run ends does not wait for the app to answer
  cross join lateral (
    select step = 'trouble' and again and exists (
      select from stepwell.inbox i where i.ws = p_ws and i.run_id = r.id and i.type = 'cancel_requested') as ends
  ) wish
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
    -- ids in the places of their runs, null in the others
    v_in_trouble := array(
      select case when ok and step = 'trouble' then id end
      from unnest(p_run_id, p_run_step, p_ok) with ordinality as t(id, step, ok, i) order by i);
    update stepwell.runs set trouble = p_run_trouble[array_position(v_in_trouble, id)]
    where ws = p_ws and id = any(v_in_trouble);
    insert into stepwell.waits (ws, run_id, key, generation, kind, due_at, opened_at)
    select p_ws, t.id, '', t.generation, 'resend', p_now + make_interval(secs => t.resend_ms / 1000), p_now
    from unnest(p_run_id, p_run_generation, p_run_step, p_run_resend_ms, p_ok) as t(id, generation, step, resend_ms, ok)
    where t.ok and t.step = 'trouble'
    on conflict (ws, run_id, key) do update set due_at = excluded.due_at, opened_at = excluded.opened_at;
  end if;

  if v_done is not null then
    -- one statement for all of it: each costs more than the rows of a small batch
    with ended as (
      delete from stepwell.runs where ws = p_ws and id = any(v_done)
      returning id, function, version, generation, created_at, parent_id, status, tags, children_ws
    ), with_parents as (
      insert into stepwell.cancelled_parents (ws, run_id)
      select elsewhere, r.id
      from ended r
      join unnest(p_run_id, p_ok, p_run_state) as t(id, ok, state) on t.id = r.id and t.ok and t.state = 'cancelled'
      cross join unnest(r.children_ws) as elsewhere
      on conflict do nothing
    ), closed as (
      delete from stepwell.waits where ws = p_ws and run_id = any(v_done)
    ), emptied as (
      delete from stepwell.inbox where ws = p_ws and run_id = any(v_done)
    ), unread as (
      delete from stepwell.signals where ws = p_ws and run_id = any(v_done)
    ), had as (
      delete from stepwell.taken_events where ws = p_ws and run_id = any(v_done)
    ), left_queue as (
      delete from stepwell.queue where ws = p_ws and run_id = any(v_leave)
    )
    insert into stepwell.runs_done (
      ws, id, function, version, generation, state, attempts, created_at, finished_at, output, error, parent_id, status, tags)
    select p_ws, r.id, r.function, r.version, r.generation, t.state, t.attempts, r.created_at, p_now, t.output, t.error,
      r.parent_id, r.status, r.tags
    from ended r
    join unnest(p_run_id, p_ok, p_run_state, p_run_attempts, p_run_output, p_run_error) as t(id, ok, state, attempts, output, error)
      on t.id = r.id and t.ok;
    if 'cancelled' = any(p_run_state) then
      insert into stepwell.cancelled_parents (ws, run_id)
      select p_ws, id from unnest(p_run_id, p_ok, p_run_state) as t(id, ok, state)
      where ok and state = 'cancelled'
        and exists (select from stepwell.runs r where r.ws = p_ws and r.parent_id = t.id and r.cancelled_with_parent)
      on conflict do nothing;
    end if;
  elsif v_leave is not null then
    delete from stepwell.queue where ws = p_ws and run_id = any(v_leave);
  end if;

  insert into stepwell.turns (ws, run_id, generation, turn, settled_at, outcome, runnable_at, claimed_at, sent_ms, first_byte_ms, ended_ms, replay_ms)
  select p_ws, id, generation, turn, p_now, outcome, ready, claimed, sent, first_byte, ended, replay
  from unnest(p_run_id, p_run_generation, p_run_turn, p_run_step, p_ok, p_claimed, p_run_outcome, p_run_ready, p_run_sent,
    p_run_first_byte, p_run_ended, p_run_replay)
    as t(id, generation, turn, step, ok, claimed, outcome, ready, sent, first_byte, ended, replay)
  where ok and step <> 'running';
end $$;
