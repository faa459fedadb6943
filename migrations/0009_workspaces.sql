-- Why: changing what a workspace knows, each change in one statement. Locks: none. Old engines: none.

-- Makes a shape known: from the commit on, every accepted event of that name gets its key under it. Alone under the name:
-- events that are being accepted without the shape are committed before, later ones see the new version.
create function stepwell.add_shape(p_ws int, p_event text, p_paths text) returns void
language plpgsql as $$
begin
  perform stepwell.lock_names(p_ws, '{}', array[p_event]);
  insert into stepwell.match_shapes (ws, event, paths) values (p_ws, p_event, p_paths) on conflict do nothing;
  if found then
    update stepwell.workspaces set version = version + 1 where ws = p_ws;
  end if;
end $$;

-- Replaces a workspace's url and functions, and lets runs that wait for the app try again at once.
create function stepwell.save_app(p_ws int, p_url text, p_ids text[], p_triggers text[], p_options text[]) returns void
language plpgsql
set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_mergejoin = off
as $$
begin
  -- locks the workspace, so that two syncs do not mix
  update stepwell.workspaces set url = p_url, version = version + 1 where ws = p_ws;
  delete from stepwell.functions where ws = p_ws and not id = any(p_ids);
  insert into stepwell.functions (ws, id, triggers, options)
  select p_ws, id, triggers, options from unnest(p_ids, p_triggers, p_options) as f(id, triggers, options)
  on conflict (ws, id) do update set triggers = excluded.triggers, options = excluded.options, synced_at = now();
  -- served by waits_resend; skip locked: whoever holds such a wait is taking it or renewing it, and may wait for another
  update stepwell.waits set due_at = clock_timestamp()
  where ws = p_ws and key = '' and run_id = any(array(
    select run_id from stepwell.waits
    where ws = p_ws and kind = 'resend' and due_at > now()
    for update skip locked));
end $$;
