-- Why: the invariants of ARCHITECTURE.md as one query, for tests and for production. Locks: none. Old engines: none.

-- Every row is a broken promise. Empty on a healthy database.
create function stepwell.check_invariants()
returns table (invariant text, ws int, run_id uuid, detail text)
language sql stable as $$
  -- every live run has a reason to exist: a place in the queue (queued or leased) or an open wait
  select 'a live run has a reason to exist', r.ws, r.id, r.function
  from stepwell.runs r
  where not exists (select from stepwell.queue q where q.ws = r.ws and q.run_id = r.id)
    and not exists (
      select from stepwell.waits w where w.ws = r.ws and w.run_id = r.id and w.kind not in ('cancel', 'deadline'))
  union all
  select 'what has arrived wakes its run', i.ws, i.run_id, i.key
  from stepwell.inbox i
  where not exists (select from stepwell.queue q where q.ws = i.ws and q.run_id = i.run_id)
    and not exists (select from stepwell.waits w where w.ws = i.ws and w.run_id = i.run_id and w.kind = 'resend')
  union all
  select 'what has arrived is noticed by its holder', i.ws, i.run_id, i.key
  from stepwell.inbox i
  join stepwell.queue q on q.ws = i.ws and q.run_id = i.run_id
  where q.owner is not null and not q.again
  union all
  select 'an open wait has missed no event', w.ws, w.run_id, w.key
  from stepwell.waits w
  join stepwell.runs r on r.ws = w.ws and r.id = w.run_id
  where w.kind = 'event' and exists (
    select from stepwell.event_keys k
    where k.ws = w.ws and k.hash = w.hash and k.received_at >= coalesce(r.looks_back_to, r.created_at)
      and not stepwell.has_event(k.ws, r.id, k.event_id)
      and not exists (
        select from stepwell.fanouts f
        where f.ws = k.ws and f.hash = k.hash and f.received_at = k.received_at and f.event_id = k.event_id))
  union all
  select 'a message and a wait for it do not stand side by side', s.ws, s.run_id, s.id::text
  from stepwell.signals s
  where exists (select from stepwell.waits w where w.ws = s.ws and w.run_id = s.run_id and w.hash = s.hash)
  union all
  select 'no message outlives its run', s.ws, s.run_id, s.id::text
  from stepwell.signals s
  where not exists (select from stepwell.runs r where r.ws = s.ws and r.id = s.run_id)
  union all
  select 'who waits for a child has one', w.ws, w.run_id, w.key
  from stepwell.waits w
  where w.kind = 'child' and not exists (
    select from stepwell.runs r
    where coalesce(r.parent_ws, r.ws) = w.ws and r.parent_id = w.run_id and r.parent_key = w.key and r.parent_generation = w.generation)
  union all
  select 'what a run waits for is of its generation', w.ws, w.run_id, w.key
  from stepwell.waits w
  join stepwell.runs r on r.ws = w.ws and r.id = w.run_id
  where w.generation <> r.generation
  union all
  select 'the tags of a live run are found', r.ws, r.id, r.tags
  from stepwell.runs r
  where coalesce(r.tags, '{}')::jsonb <> coalesce(
    (select jsonb_object_agg(t.name, t.value) from stepwell.run_tags t where t.ws = r.ws and t.run_id = r.id), '{}')
  union all
  select 'nothing is queued for a run that is not there', q.ws, q.run_id, ''
  from stepwell.queue q
  where not exists (select from stepwell.runs r where r.ws = q.ws and r.id = q.run_id)
  union all
  select 'no wait outlives its run', w.ws, w.run_id, w.key
  from stepwell.waits w
  where not exists (select from stepwell.runs r where r.ws = w.ws and r.id = w.run_id)
  union all
  select 'a finished run is not live', d.ws, d.id, d.state
  from stepwell.runs_done d
  where exists (select from stepwell.runs r where r.ws = d.ws and r.id = d.id)
  union all
  select 'a run finishes once', d.ws, d.id, count(*)::text
  from stepwell.runs_done d group by d.ws, d.id having count(*) > 1
  union all
  select 'a key is settled at most once', j.ws, j.run_id, j.key
  from stepwell.journal j where j.settles group by j.ws, j.run_id, j.generation, j.key having count(*) > 1
  union all
  select 'seq is dense from 1', j.ws, j.run_id, format('%s entries, %s to %s', count(*), min(j.seq), max(j.seq))
  from stepwell.journal j group by j.ws, j.run_id, j.generation having min(j.seq) <> 1 or max(j.seq) <> count(*)
  union all
  select 'messages of a run are numbered from 1', p.ws, p.run_id, format('%s messages, %s to %s', count(*), min(p.seq), max(p.seq))
  from stepwell.published p group by p.ws, p.run_id having min(p.seq) <> 1 or max(p.seq) <> count(*)
  union all
  select 'an event satisfies one wait of a run', j.ws, j.run_id, j.event_id::text
  from stepwell.journal j where j.event_id is not null group by j.ws, j.run_id, j.event_id having count(*) > 1
$$;
