/**
 * The server of an engine that was killed goes on running. When it is what we would start now, it is taken over as it
 * is: no recovery, and the caches are warm. Otherwise it is stopped first.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Identity } from './cluster.ts'
import { askServer, type Connection, type Endpoint } from './connection.ts'
import type { Layout } from './layout.ts'
import { clearRemains, type Postmaster, READY_TIMEOUT_MS, readPostmasterFile, stopPostmaster } from './postmaster.ts'

const POLL_MS = 20

/**
 * The running server, if there is one and it is ours: it carries our name, answers to our password, and says that it
 * serves this folder with these settings.
 */
export async function adoptRunning(options: {
  layout: Layout
  identity: Identity
  fingerprint: string
}): Promise<{ endpoint: Endpoint; postmaster: Postmaster } | undefined> {
  const { layout, identity, fingerprint } = options
  const settled = await waitUntilSettled(layout, identity)
  if (settled === undefined) return undefined
  const { endpoint, postmaster } = settled
  try {
    const facts = await askServer(connectionTo(endpoint, identity))
    const isWanted = facts.dataDirectory === layout.cluster && facts.fingerprint === fingerprint
    return isWanted ? { endpoint, postmaster } : undefined
  } catch {
    // It does not answer, or not to us: it will be stopped and started, which reports what is wrong with it.
    return undefined
  }
}

/** Stops whatever server runs on the folder, and clears what an unclean stop has left. */
export async function stopRunning(layout: Layout, identity: Identity): Promise<void> {
  const file = await readPostmasterFile(layout, identity)
  // A clean stop removes the file. Looking at every process of the machine is for when it is there.
  if (file === undefined) return
  if (file.process) await stopPostmaster(file.process, layout)
  await clearRemains(layout, identity)
}

export function connectionTo(endpoint: Endpoint, identity: Identity): Connection {
  const { user, password, database } = identity
  const host = endpoint.kind === 'socket' ? endpoint.folder : endpoint.host
  return { host, port: endpoint.port, user, password, database }
}

/** A server that is still starting, recovering maybe, is waited for; one that is stopping is none. */
async function waitUntilSettled(layout: Layout, identity: Identity) {
  const deadline = performance.now() + READY_TIMEOUT_MS
  while (performance.now() < deadline) {
    const file = await readPostmasterFile(layout, identity)
    if (file?.process === undefined || file.status === 'stopping') return undefined
    if (file.status === 'ready' && file.endpoint) {
      const postmaster: Postmaster = { process: file.process, child: undefined }
      return { endpoint: file.endpoint, postmaster }
    }
    await sleep(POLL_MS)
  }
  return undefined
}
