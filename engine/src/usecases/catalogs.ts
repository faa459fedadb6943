import type { Catalog } from '../core/catalog.ts'
import { EngineError } from '../core/errors.ts'
import type { WorkspaceId } from '../core/ids.ts'
import type { Sql } from '../store/db.ts'
import { findWorkspace, readCatalog } from '../store/workspaces.ts'

/** How long a name is believed not to exist, and a catalog to be current when nothing else has said otherwise. */
const BELIEVED_MS = 5_000

/**
 * What this process knows of its workspaces. Never wrong for long, and where it matters not at all: accepting events
 * and claiming runs both compare versions in the database.
 */
export class Catalogs {
  readonly #sql: Sql
  readonly #byId = new Map<WorkspaceId, { catalog: Catalog; readAt: number }>()
  readonly #idByName = new Map<string, WorkspaceId>()

  constructor(sql: Sql) {
    this.#sql = sql
  }

  /** By name, for requests. Null when there is no such workspace. */
  async byName(name: string): Promise<Catalog | null> {
    const known = this.#idByName.get(name)
    if (known !== undefined) return this.get(known)
    const ws = await findWorkspace(this.#sql, name)
    if (ws === null) return null
    this.#idByName.set(name, ws)
    return this.get(ws)
  }

  /** The catalog as last read, at most some seconds ago. */
  async get(ws: WorkspaceId): Promise<Catalog> {
    const known = this.#byId.get(ws)
    if (known !== undefined && performance.now() - known.readAt < BELIEVED_MS) return known.catalog
    return this.reload(ws)
  }

  /** The catalog of this version or a later one. */
  async atLeast(ws: WorkspaceId, version: string): Promise<Catalog> {
    const known = this.#byId.get(ws)
    return known?.catalog.version === version ? known.catalog : this.reload(ws)
  }

  async reload(ws: WorkspaceId): Promise<Catalog> {
    const catalog = await readCatalog(this.#sql, ws)
    if (catalog === null) {
      this.#byId.delete(ws)
      throw new EngineError('workspace_unknown', 401, `Workspace ${ws} does not exist any more.`)
    }
    this.#byId.set(ws, { catalog, readAt: performance.now() })
    return catalog
  }
}
