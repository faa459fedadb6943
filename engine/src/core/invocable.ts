import type { FunctionDescription } from '@stepwell/protocol'
import type { Catalog } from './catalog.ts'
import type { WorkspaceId } from './ids.ts'

/** A function that may be invoked, and where its runs live: null for the workspace of who invokes it. */
export interface Invoked {
  ws: WorkspaceId | null
  description: FunctionDescription
}

/**
 * The functions that a run may invoke: `charge` of its own workspace, `billing/charge` of another app of the same
 * environment. Those of other apps are known once they have been looked up (`add`).
 */
export class Invocable {
  readonly #own: Catalog
  readonly #others = new Map<string, Catalog>()

  constructor(own: Catalog) {
    this.#own = own
  }

  has(id: string): boolean {
    return this.find(id) !== null
  }

  find(id: string): Invoked | null {
    const { app, functionId } = splitFunction(id)
    const catalog = app === null ? this.#own : this.#others.get(app)
    const description = catalog?.functions.get(functionId)
    if (catalog === undefined || description === undefined) return null
    return { ws: catalog.ws === this.#own.ws ? null : catalog.ws, description }
  }

  /** The same apps, beside a newer catalog of its own workspace. */
  withOwn(own: Catalog): Invocable {
    const next = new Invocable(own)
    for (const [app, catalog] of this.#others) next.add(app, catalog)
    return next
  }

  /** Makes the functions of another app known. */
  add(app: string, catalog: Catalog): void {
    this.#others.set(app, catalog)
  }

  /** The name of the workspace that an app has in this environment. */
  workspaceOf(app: string): string {
    return `${app}/${this.#own.name.split('/').at(-1)}`
  }
}

/** `billing/charge` names an app and its function, `charge` a function. */
export function splitFunction(id: string): { app: string | null; functionId: string } {
  const at = id.indexOf('/')
  return at === -1 ? { app: null, functionId: id } : { app: id.slice(0, at), functionId: id.slice(at + 1) }
}
