import type { WorkspaceId } from '../core/ids.ts'
import type { Sql } from '../store/db.ts'
import { ensureWorkspace, setOnlyKey } from '../store/workspaces.ts'

/**
 * Makes the workspace exist with these keys. Several keys are added to those that it has; a single one replaces them: so a
 * key rotates by starting with both, and ends by starting with the new one.
 */
export async function putKeys(sql: Sql, name: string, keys: readonly string[]): Promise<WorkspaceId> {
  const [first, ...others] = keys
  if (first === undefined) throw new Error(`Workspace ${name} needs a signing key.`)
  for (const key of others) await ensureWorkspace(sql, name, key)
  const ws = await ensureWorkspace(sql, name, first)
  if (others.length === 0) await setOnlyKey(sql, ws, first)
  return ws
}
