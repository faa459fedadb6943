/*
 * Who sends a message: the workspace that it names, proven by a signature over its raw bytes under one of the workspace's
 * keys (SPEC.md 2). Requests and streams pass the same gate, so that what was accepted on one is a replay on the other.
 */
import {
  createReplayGuard,
  fingerprint,
  HEADERS,
  LIMITS,
  PROTOCOL_VERSIONS,
  type SignatureHeaders,
  verify,
} from '@stepwell/protocol'
import type { Catalog } from '../core/catalog.ts'
import { EngineError } from '../core/errors.ts'
import type { Catalogs } from '../usecases/catalogs.ts'

/** The workspaces of the two kinds of engines, unless they were given another one. */
export const DEV_WORKSPACE = 'default/dev'
export const START_WORKSPACE = 'default/prod'

const SHOWN_CHARS = 100

/** What every message passes. Throws EngineErrors. */
export class Gate {
  readonly #catalogs: Pick<Catalogs, 'byName'>
  /** In dev: the workspace that unsigned requests act on. */
  readonly devWorkspace: string | null
  readonly #replays = createReplayGuard()

  constructor(catalogs: Pick<Catalogs, 'byName'>, devWorkspace: string | null) {
    this.#catalogs = catalogs
    this.devWorkspace = devWorkspace
  }

  async workspaceNamed(name: string | undefined): Promise<Catalog> {
    const catalog = await this.findWorkspace(name)
    if (catalog !== null) return catalog
    const ours = this.devWorkspace ?? `"stepwell start" makes ${START_WORKSPACE} unless told otherwise`
    const message =
      name === undefined || name === ''
        ? `There is no ${HEADERS.workspace} header. Name the engine's workspace in it: ${ours}.`
        : `There is no workspace ${show(name)} on this engine. Set STEPWELL_WORKSPACE in the app to the engine's: ${ours}.`
    throw new EngineError('workspace_unknown', 401, message)
  }

  async findWorkspace(name: string | undefined): Promise<Catalog | null> {
    return isWorkspaceName(name) ? this.#catalogs.byName(name) : null
  }

  /** The id of a message that is signed as it should be, and new. */
  verify(catalog: Catalog, headers: SignatureHeaders, payload: string | Uint8Array): string {
    const nowMs = Date.now()
    const verified = verify({ headers, payload, secrets: catalog.keys, nowMs })
    if (!verified.ok) {
      throw new EngineError(verified.code, 401, verified.message, { fingerprints: catalog.keys.map(fingerprint) })
    }
    // Senders choose their ids: those of two workspaces have nothing to do with each other.
    if (!this.#replays.accept(`${catalog.ws} ${verified.id}`, nowMs)) {
      throw new EngineError(
        'request_replayed',
        401,
        `A message with the ${HEADERS.id} ${verified.id} was accepted before. Give each request a new id, also one that repeats another.`,
      )
    }
    return verified.id
  }
}

/** Refuses a version that this engine does not speak; requests without a signature need not name one. */
export function requireVersion(version: string | undefined, isSigned: boolean): void {
  if (version === undefined && !isSigned) return
  if (version !== undefined && PROTOCOL_VERSIONS.includes(version)) return
  const said =
    version === undefined ? `There is no ${HEADERS.version} header` : `Version ${show(version)} is not known here`
  throw new EngineError('version_unknown', 415, `${said}. This engine speaks ${PROTOCOL_VERSIONS.join(', ')}.`, {
    versions: PROTOCOL_VERSIONS,
  })
}

/** Postgres takes no NUL, and no name is longer than this. */
function isWorkspaceName(name: string | undefined): name is string {
  return name !== undefined && name.length <= LIMITS.workspaceChars && /^[^\p{Cc}\p{Cs}]+$/u.test(name)
}

function show(text: string): string {
  return JSON.stringify(text.slice(0, SHOWN_CHARS))
}
