-- Why: the first schema. Live tables are narrow and not partitioned; history is insert-only and partitioned by time.
-- Locks: none that matter, everything is new. Old engines: there are none.
--
-- Every primary key leads with the workspace. No foreign keys, no triggers, no sequences: ids are made in the engine.
-- A run exists while it has a row in `runs`; what it is doing follows from where else it has a row:
--   queue (owner null: queued; owner set: running), waits (waiting). check_invariants() holds that to be exactly one.

create table stepwell.workspaces (
  ws int primary key,
  name text not null unique,
  -- where the app's endpoint is; null until an app has registered
  url text,
  -- grows with every change of url, keys, functions or match shapes, so that caches know when they are stale
  version bigint not null default 1,
  created_at timestamptz not null default now()
);

create table stepwell.workspace_keys (
  ws int not null,
  secret text not null,
  created_at timestamptz not null default now(),
  primary key (ws, secret)
);

create table stepwell.functions (
  ws int not null,
  id text not null,
  triggers text not null,
  -- JSON: time-outs, cancelOn, tags, and which functions follow its failure or cancellation
  options text not null default '{}',
  synced_at timestamptz not null default now(),
  primary key (ws, id)
);

-- The sets of paths by which waits match events of one name. An arriving event gets one key per shape.
create table stepwell.match_shapes (
  ws int not null,
  event text not null,
  -- JSON array of paths, sorted
  paths text not null,
  -- events received since then have their key; null until the first look back is complete
  complete_since timestamptz,
  primary key (ws, event, paths)
);

create table stepwell.workers (
  id uuid primary key,
  started_at timestamptz not null default now(),
  heartbeat_at timestamptz not null default now(),
  note text not null default ''
);

create table stepwell.runs (
  ws int not null,
  id uuid not null,
  function text not null,
  -- of the function, when the generation began
  version int not null default 1,
  generation int not null default 1,
  turns_settled int not null default 0,
  -- JSON {code, message, attempts, since} while the app does not answer as it should
  trouble text,
  created_at timestamptz not null,
  -- waits look back to here; null for the start of the run
  looks_back_to timestamptz,
  -- the run that invoked it, and the wait of that run (null: nobody waits) that its end resumes
  parent_id uuid,
  -- null: the same workspace
  parent_ws int,
  parent_key text,
  parent_generation int,
  cancelled_with_parent boolean not null default false,
  -- other workspaces in which it has children
  children_ws int[],
  -- a step has said that it wants to be undone when the run is cancelled: the app gets a turn for that
  wants_undo boolean not null default false,
  -- JSON, as the handler said of itself last
  status text,
  -- JSON object; run_tags has the same, to find runs by
  tags text,
  primary key (ws, id)
) with (fillfactor = 80);
create index runs_by_function on stepwell.runs (ws, function, id);
create index runs_by_parent on stepwell.runs (ws, parent_id, id) where cancelled_with_parent;

-- What may run now or is running. One row per run, so one turn at a time is a key and not a convention.
create table stepwell.queue (
  ws int not null,
  run_id uuid not null,
  ready_at timestamptz not null,
  owner uuid,
  -- the epoch: random, new with every claim; a writer with another one changes nothing
  token bigint,
  claimed_at timestamptz,
  -- something arrived for the run since its holder last looked
  again boolean not null default false,
  primary key (ws, run_id),
  check ((owner is null) = (token is null))
) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
create index queue_runnable on stepwell.queue (ws, ready_at, run_id) where owner is null;
create index queue_owned on stepwell.queue (ws, owner) where owner is not null;

-- An open interest of a run in time or in a future event. Whoever deletes the row resumes the run, in that transaction.
create table stepwell.waits (
  ws int not null,
  run_id uuid not null,
  -- the op's key; empty for 'resend', which is about the turn and not about an op
  key text not null,
  generation int not null,
  -- 'cancel' and 'deadline' do not resume the run, they ask it to end: an event by which it is cancelled, a time-out of its own
  kind text not null check (kind in ('sleep', 'event', 'retry', 'resend', 'signal', 'child', 'cancel', 'deadline')),
  due_at timestamptz,
  -- the name of an event or a signal, which child, which time-out, or why an attempt failed
  event text,
  hash uuid,
  opened_at timestamptz not null,
  -- order among waits that one statement opened
  ord int not null default 0,
  primary key (ws, run_id, key),
  check ((kind in ('event', 'signal', 'cancel')) = (hash is not null)),
  check (kind in ('event', 'signal', 'child', 'cancel') or due_at is not null)
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);
create index waits_due on stepwell.waits (ws, due_at) where due_at is not null;
create index waits_resend on stepwell.waits (ws, due_at) where kind = 'resend';
create index waits_by_hash on stepwell.waits (ws, hash, run_id) where hash is not null;

-- What has reached a run from outside and is not in its journal yet. The holder of the lease moves it there.
create table stepwell.inbox (
  ws int not null,
  run_id uuid not null,
  key text not null,
  generation int not null,
  arrived_at timestamptz not null,
  -- order among what one statement brought
  ord int not null default 0,
  type text not null,
  event_id uuid,
  data text,
  primary key (ws, run_id, generation, key)
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);

-- Messages to a run that nobody has received: each goes to one wait of its run for that name, the oldest first.
create table stepwell.signals (
  ws int not null,
  run_id uuid not null,
  -- of the name
  hash uuid not null,
  received_at timestamptz not null,
  -- of the sender's id: what is sent again under its id is the same message
  id uuid not null,
  -- as JSON, in the shape of an event
  data text not null,
  primary key (ws, run_id, id)
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);
create index signals_in_order on stepwell.signals (ws, run_id, hash, received_at, id);

-- Events that earlier generations of a run have had: their journals are gone.
create table stepwell.taken_events (
  ws int not null,
  run_id uuid not null,
  event_id uuid not null,
  -- when the run got it
  at timestamptz not null,
  primary key (ws, run_id, event_id)
);

-- Cancelled runs whose children have to be asked to end. A loop walks them in batches.
create table stepwell.cancelled_parents (
  ws int not null,
  run_id uuid not null,
  primary key (ws, run_id)
);

-- Names and values by which runs are found, live and finished.
create table stepwell.run_tags (
  ws int not null,
  run_id uuid not null,
  name text not null,
  value text not null,
  primary key (ws, run_id, name)
);
create index run_tags_by_value on stepwell.run_tags (ws, name, value, run_id);

-- An event that satisfies more waits than one transaction should wake. A loop walks them in batches.
create table stepwell.fanouts (
  ws int not null,
  hash uuid not null,
  received_at timestamptz not null,
  event_id uuid not null,
  primary key (ws, hash, received_at, event_id)
);

-- The sender's own event ids of the last 24 hours.
create table stepwell.event_ids (
  ws int not null,
  own_id text not null,
  run_ids uuid[] not null,
  at timestamptz not null,
  primary key (ws, own_id)
);
create index event_ids_by_age on stepwell.event_ids (ws, at);

create table stepwell.events (
  ws int not null,
  received_at timestamptz not null,
  id uuid not null,
  wire_id text not null,
  name text not null,
  ts text not null,
  data text not null,
  primary key (ws, id, received_at)
) partition by range (received_at);
create index events_by_name on stepwell.events (ws, name, received_at, id);

create table stepwell.event_keys (
  ws int not null,
  hash uuid not null,
  received_at timestamptz not null,
  event_id uuid not null,
  primary key (ws, hash, received_at, event_id)
) partition by range (received_at);

-- Partitioned by run id, which begins with the time of the run's creation: a run's journal is in one partition.
create table stepwell.journal (
  ws int not null,
  run_id uuid not null,
  generation int not null,
  seq int not null,
  turn int not null,
  at timestamptz not null,
  type text not null,
  key text,
  saw int,
  -- this entry settles its key: at most one per key, for ever
  settles boolean not null,
  event_id uuid,
  started_ms double precision,
  duration_ms double precision,
  data text,
  primary key (ws, run_id, generation, seq)
) partition by range (run_id);
create unique index journal_settled on stepwell.journal (ws, run_id, generation, key) where settles;
-- Which events a run has had. Without it each look back would read the run's whole journal.
create index journal_events on stepwell.journal (ws, run_id, event_id) where event_id is not null;

-- Messages that runs publish for those who follow them. Partitioned as the journal: they go when it goes, and stay when the run
-- ends or begins its next generation. Insert-only.
create table stepwell.published (
  ws int not null,
  run_id uuid not null,
  -- dense from 1, across channels and generations; one writer, the holder of the lease
  seq bigint not null,
  channel text not null,
  at timestamptz not null,
  data text not null,
  primary key (ws, run_id, seq)
) partition by range (run_id);

create table stepwell.runs_done (
  ws int not null,
  id uuid not null,
  function text not null,
  version int not null default 1,
  generation int not null,
  state text not null check (state in ('completed', 'failed', 'cancelled')),
  attempts int not null,
  created_at timestamptz not null,
  finished_at timestamptz not null,
  output text,
  error text,
  parent_id uuid,
  status text,
  tags text,
  primary key (ws, id, finished_at)
) partition by range (finished_at);
create index runs_done_by_function on stepwell.runs_done (ws, function, id);
-- the few that somebody looks for
create index runs_done_not_completed on stepwell.runs_done (ws, state, id) where state <> 'completed';

-- One line per dispatch: the stamps that split a run's time into waiting, durable, network and app.
create table stepwell.turns (
  ws int not null,
  run_id uuid not null,
  generation int not null,
  turn int not null,
  settled_at timestamptz not null,
  outcome text not null,
  runnable_at timestamptz not null,
  claimed_at timestamptz not null,
  -- milliseconds since the claim, by the engine's monotonic clock; null when it did not come to that
  sent_ms double precision,
  first_byte_ms double precision,
  ended_ms double precision,
  -- as the app reports it
  replay_ms double precision
) partition by range (settled_at);
create index turns_by_run on stepwell.turns (ws, run_id);

-- Weekly partitions, and a default one so that an insert never fails for want of a partition.
create table stepwell.events_default partition of stepwell.events default;
create table stepwell.event_keys_default partition of stepwell.event_keys default;
create table stepwell.journal_default partition of stepwell.journal default;
create table stepwell.published_default partition of stepwell.published default;
create table stepwell.runs_done_default partition of stepwell.runs_done default;
create table stepwell.turns_default partition of stepwell.turns default;

-- Payloads are text with lz4 where the server was built with it (the embedded one is not, and uses pglz).
do $$
begin
  alter table stepwell.events alter column data set compression lz4;
  alter table stepwell.journal alter column data set compression lz4;
  alter table stepwell.published alter column data set compression lz4;
  alter table stepwell.runs_done alter column output set compression lz4, alter column error set compression lz4;
exception when feature_not_supported then
  null;
end $$;

-- The smallest v7 uuid of an instant.
create function stepwell.uuid_floor(p_at timestamptz) returns uuid
language sql immutable as $$
  select (lpad(to_hex((extract(epoch from p_at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- Creates one missing partition, of this week or of p_weeks more; false when none is missing. One per transaction: it locks
-- its table alone, and two of them would wait for writers that wait for the other. Weeks are those of UTC, whatever the
-- session's time zone.
create function stepwell.ensure_partition(p_weeks int) returns boolean
language plpgsql as $$
declare
  v_week timestamp;
  v_name text;
  v_table text;
  v_from text;
  v_to text;
begin
  perform pg_advisory_xact_lock(hashtext('stepwell partitions'));
  -- writers queue up behind a lock that waits: rather give up and be called again
  perform set_config('lock_timeout', '2s', true);
  for i in 0..p_weeks loop
    v_week := date_trunc('week', now() at time zone 'utc') + make_interval(weeks => i);
    foreach v_table in array array['events', 'event_keys', 'runs_done', 'turns', 'journal', 'published'] loop
      v_name := format('%s_%s', v_table, to_char(v_week, 'IYYY"w"IW'));
      continue when to_regclass('stepwell.' || v_name) is not null;
      v_from := v_week at time zone 'utc';
      v_to := (v_week + interval '7 days') at time zone 'utc';
      if v_table in ('journal', 'published') then
        v_from := stepwell.uuid_floor(v_from::timestamptz);
        v_to := stepwell.uuid_floor(v_to::timestamptz);
      end if;
      begin
        execute format('create table stepwell.%I partition of stepwell.%I for values from (%L) to (%L)', v_name, v_table, v_from, v_to);
        return true;
      exception when check_violation then
        -- a clock was ahead once, and rows of that week are in the default partition: the week stays there
        continue;
      end;
    end loop;
  end loop;
  return false;
end $$;
