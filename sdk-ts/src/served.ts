/** The functions of an endpoint, by id and version. */
import type { FunctionDescription } from '@stepwell/protocol'
import type { DurableFunction } from './function.ts'

/** What a turn finds: the code to execute it with, or why there is none. */
export type Found = { definition: DurableFunction } | { missing: 'function' | 'version'; message: string }

export class Served {
  /** Versions of each function, newest first. */
  readonly #byId: ReadonlyMap<string, readonly DurableFunction[]>

  /** @throws TypeError when there is no function, or one version of one is there twice */
  constructor(functions: readonly DurableFunction[]) {
    this.#byId = indexById(functions)
  }

  get ids(): string[] {
    return [...this.#byId.keys()]
  }

  find(id: string, version: number): Found {
    const versions = this.#byId.get(id)
    const newest = versions?.[0]
    if (versions === undefined || newest === undefined) {
      const message = `There is no function "${id}" here. Add it to serve([…]), or sync the app again.`
      return { missing: 'function', message }
    }
    const exact = versions.find(definition => definition.version === version)
    if (exact !== undefined) return { definition: exact }
    if (newest.onMissing === 'latest') return { definition: newest }
    const served = versions.map(definition => definition.version).join(', ')
    const message =
      `The run began with version ${version} of "${id}", and only ${served} is served here. Serve version ${version} beside it ` +
      'until its runs have ended, or set onMissing: "latest" on the newest to have them go on with that.'
    return { missing: 'version', message }
  }

  describe(): FunctionDescription[] {
    return [...this.#byId.values()].map(versions => {
      const [newest, ...older] = versions as [DurableFunction, ...DurableFunction[]]
      const { id, version, trigger, policies } = newest
      return {
        id,
        ...(version > 1 && { version }),
        ...(older.length > 0 && { olderVersions: older.map(definition => definition.version) }),
        triggers: trigger === null ? [] : [{ event: trigger.event }],
        ...policies,
      }
    })
  }
}

function indexById(functions: readonly DurableFunction[]): ReadonlyMap<string, readonly DurableFunction[]> {
  if (!Array.isArray(functions) || functions.length === 0) {
    throw new TypeError('serve needs at least one function: serve([onboarding]).')
  }
  const byId = new Map<string, DurableFunction[]>()
  for (const definition of functions) {
    if (typeof definition?.id !== 'string' || typeof definition.handler !== 'function') {
      throw new TypeError('serve takes functions made with createFunction.')
    }
    add(byId, definition)
  }
  for (const versions of byId.values()) versions.sort((a, b) => b.version - a.version)
  // What follows the end of a run is that of the newest version.
  for (const [newest] of [...byId.values()]) for (const follower of newest?.followers ?? []) add(byId, follower)
  return byId
}

function add(byId: Map<string, DurableFunction[]>, definition: DurableFunction): void {
  const { id, version } = definition
  const versions = byId.get(id) ?? []
  if (versions.some(known => known.version === version)) {
    const which = versions.length > 0 && version > 1 ? ` and version ${version}` : ''
    throw new TypeError(
      `There are two functions with the id "${id}"${which}. Give one of them another id, or another version.`,
    )
  }
  versions.push(definition)
  byId.set(id, versions)
}
