import { createHash } from 'node:crypto'
import { join } from 'node:path'

/**
 * Everything an embedded Postgres leaves on disk is inside the one folder that the user named, so that removing the
 * folder removes all of it, a mounted volume can be that folder, and its parent need not be writable.
 *
 *     <dataDir>/cluster/               what Postgres calls its data directory
 *     <dataDir>/cluster/stepwell.json  makes it ours: user, password, name (0600)
 *     <dataDir>/socket/                the unix socket (0700)
 *     <dataDir>/postgres.log           with postgres.log.1 before it
 *     <dataDir>/stepwell.lock          which process owns the folder
 *     <dataDir>/native-lib/            only when the package folder cannot be written: links to its libraries
 */
export interface Layout {
  dataDir: string
  cluster: string
  socketDir: string
  log: string
  previousLog: string
  lock: string
  libraryLinks: string
}

export function layoutOf(dataDir: string): Layout {
  return {
    dataDir,
    cluster: join(dataDir, 'cluster'),
    socketDir: join(dataDir, 'socket'),
    log: join(dataDir, 'postgres.log'),
    previousLog: join(dataDir, 'postgres.log.1'),
    lock: join(dataDir, 'stepwell.lock'),
    libraryLinks: join(dataDir, 'native-lib'),
  }
}

/** A cluster is made under this name and renamed when complete, so a half-made one never counts. */
export const UNFINISHED_PREFIX = 'cluster.new-'
/** A cluster is renamed to this before it is deleted, so a half-deleted one never counts. */
export const DISCARDED_PREFIX = 'cluster.old-'
/** The name of the file that makes a cluster ours. */
export const IDENTITY_FILE = 'stepwell.json'

// `lost+found` is in the root of every ext4 volume, the other two appear by themselves on a Mac.
const OWN_NAMES = /^(cluster(\.(new|old)-.*)?|socket|postgres\.log(\.1)?|stepwell\.lock.*|native-lib)$/
const HARMLESS_NAMES = new Set(['lost+found', '.DS_Store', '.localized'])

/** Whether an entry of the folder is one that we make, or one that any folder may have. */
export function isExpectedName(name: string): boolean {
  return OWN_NAMES.test(name) || HARMLESS_NAMES.has(name)
}

/** Short and stable, for telling whether a running server was started with what we would start it with now. */
export function fingerprintOf(parts: readonly string[]): string {
  return createHash('sha256').update(parts.join('\0')).digest('hex').slice(0, 16)
}
