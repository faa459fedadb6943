-- Why: the report that a turn sends in its middle, the most frequent write of all: it brings results of steps, and the
-- turn goes on. Two statements instead of the dozen of advance(). Locks: none. Old engines: none.

-- Writes journal entries of many leased runs. p_run_ arrays are parallel; p_entry_run: index into them, from 1. The holder
-- gives entries their seq: it alone writes to the journal, and knows where that ends as long as nothing has arrived.
-- Refused, and nothing of it written: runs whose token is another one, and runs to which something has arrived since
-- their holder last looked. Those go through advance().
create function stepwell.record(
  p_ws int, p_run_id uuid[], p_run_token bigint[], p_run_generation int[], p_run_turn int[],
  p_entry_run int[], p_entry_seq int[], p_entry_type text[], p_entry_key text[], p_entry_saw int[], p_entry_settles boolean[],
  p_entry_started double precision[], p_entry_duration double precision[], p_entry_data text[],
  out refused int[], out now_ms double precision
) language plpgsql
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_mergejoin = off
as $$
declare
  v_ok boolean[];
  v_now timestamptz;
begin
  -- The fence. Rows are locked in order of run id; what is read of them is what is true once they are ours.
  with locked as materialized (
    select q.run_id, q.token, q.again from stepwell.queue q
    where q.ws = p_ws and q.run_id = any(p_run_id)
    order by q.run_id
    for update
  ), fence as (
    select r.i, coalesce(l.token = r.token and not l.again, false) as ok
    from unnest(p_run_id, p_run_token) with ordinality as r(id, token, i)
    left join locked l on l.run_id = r.id
  )
  select array_agg(ok order by i), array_agg(i::int) filter (where not ok) into v_ok, refused from fence;
  v_now := clock_timestamp();
  now_ms := extract(epoch from v_now) * 1000;
  insert into stepwell.journal (ws, run_id, generation, seq, turn, at, type, key, saw, settles, started_ms, duration_ms, data)
  select p_ws, p_run_id[e.run], p_run_generation[e.run], e.seq, p_run_turn[e.run], v_now, e.type, e.key, e.saw, e.settles,
    e.started, e.duration, e.data
  from unnest(p_entry_run, p_entry_seq, p_entry_type, p_entry_key, p_entry_saw, p_entry_settles, p_entry_started, p_entry_duration, p_entry_data)
    as e(run, seq, type, key, saw, settles, started, duration, data)
  where v_ok[e.run];
end $$;
