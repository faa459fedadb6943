/**
 * Who Postgres runs as. It refuses root, so as root we run it under the account that owns the data, else `postgres`,
 * else `nobody`; we never create one. That account usually cannot reach ~/.stepwell (root's home is 0700) nor
 * node_modules beneath it, and opening up somebody's home is not ours to do. So where a path is closed, util-linux's
 * setpriv starts the server with one capability: to pass and read folders (CAP_DAC_READ_SEARCH), or to ignore modes
 * (CAP_DAC_OVERRIDE) when even the binaries may be executed by root only. Postgres looks at its uid, not at
 * capabilities, and everything it writes is its own. `no_setuid_fixup` is for access(2), with which Postgres looks for
 * its own program: without it the kernel lets access(2) forget a non-root user's capabilities.
 */
import type { SpawnOptions } from 'node:child_process'
import { readFile, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Binaries } from './binaries.ts'
import { EmbeddedPostgresError } from './error.ts'
import { runToEnd } from './run-program.ts'

/** The account that owns everything in the data folder. `self` when we are it. */
export type Account = { kind: 'self' } | { kind: 'other'; name: string; uid: number; gid: number }

/** How to start a program as that account. */
export type Launcher = { kind: 'plain' } | { kind: 'setpriv'; capability: 'dac_read_search' | 'dac_override' }

type OtherAccount = Extract<Account, { kind: 'other' }>

const PREFERRED_ACCOUNTS = ['postgres', '_postgres', 'nobody']
const PROBE_TIMEOUT_MS = 10_000

/** Chooses the account for a data folder. `owners` are existing paths of it, the most telling first. */
export async function chooseAccount(owners: readonly string[]): Promise<Account> {
  if (process.geteuid?.() !== 0) return { kind: 'self' }
  const known = await readAccounts()
  for (const path of owners) {
    const found = await stat(path).catch(() => undefined)
    if (found === undefined || found.uid === 0) continue
    const account = known.find(({ uid }) => uid === found.uid)
    return account ?? { kind: 'other', name: `user ${found.uid}`, uid: found.uid, gid: found.gid }
  }
  for (const name of PREFERRED_ACCOUNTS) {
    const account = known.find(candidate => candidate.name === name && candidate.uid !== 0)
    if (account) return account
  }
  throw cannotRunAsRoot('there is neither a `postgres` nor a `nobody` account to run it under')
}

/** Finds out how that account can run the binaries on that folder. Throws `cannot_run_as_root` when it cannot. */
export async function chooseLauncher(account: Account, binaries: Binaries, dataDir: string): Promise<Launcher> {
  if (account.kind === 'self') return { kind: 'plain' }
  const executable = await allows(account, binaries.postgres, 0o5)
  const closed = await firstClosedPath(account, [...binaries.samples, binaries.postgres, dataDir])
  const launcher: Launcher =
    executable && closed === undefined
      ? { kind: 'plain' }
      : { kind: 'setpriv', capability: executable ? 'dac_read_search' : 'dac_override' }
  const command = asAccount({ account, launcher, file: binaries.postgres, args: ['-V'] })
  const outcome = await runToEnd({ ...command, env: binaries.libraryEnv, timeoutMs: PROBE_TIMEOUT_MS })
  if (outcome.ok) return launcher
  if (launcher.kind === 'setpriv') {
    throw cannotRunAsRoot(
      `the account ${account.name}, which it would run under, cannot reach ${closed ?? binaries.postgres}, ` +
        `and setpriv could not let it (${outcome.output}). Choose a folder that it can reach with --data-dir`,
    )
  }
  if (outcome.code === 'EPERM') throw cannotRunAsRoot(`the system does not let it become ${account.name}`)
  // The binaries themselves do not run here: initdb or the server will say so, for root and for others alike.
  return launcher
}

/** What to spawn so that `file` runs as `account`. */
export function asAccount(options: { account: Account; launcher: Launcher; file: string; args: readonly string[] }): {
  file: string
  args: string[]
  identity: Pick<SpawnOptions, 'uid' | 'gid'>
} {
  const { account, launcher, file, args } = options
  if (account.kind === 'self') return { file, args: [...args], identity: {} }
  // Node drops the supplementary groups of root by itself when it is given a uid.
  if (launcher.kind === 'plain') return { file, args: [...args], identity: { uid: account.uid, gid: account.gid } }
  const privileges = [
    `--reuid=${account.uid}`,
    `--regid=${account.gid}`,
    '--clear-groups',
    '--securebits=+no_setuid_fixup',
    `--inh-caps=+${launcher.capability}`,
    `--ambient-caps=+${launcher.capability}`,
    '--',
  ]
  return { file: 'setpriv', args: [...privileges, file, ...args], identity: {} }
}

export function cannotRunAsRoot(why: string, cause?: unknown): EmbeddedPostgresError {
  return new EmbeddedPostgresError(
    'cannot_run_as_root',
    `Postgres refuses to run as root, and ${why}, or run Stepwell as an ordinary user.`,
    { cause },
  )
}

/** A Mac has its system accounts in this file too, which is all we look for. */
async function readAccounts(): Promise<OtherAccount[]> {
  const text = await readFile('/etc/passwd', 'utf8').catch(() => '')
  return text.split('\n').flatMap((line): OtherAccount[] => {
    const [name = '', , uid = '', gid = ''] = line.split(':')
    // Negative ids (nobody is -2 on a Mac) are unsigned to the system.
    return name === '' || uid === '' || name.startsWith('#')
      ? []
      : [{ kind: 'other', name, uid: Number(uid) >>> 0, gid: Number(gid) >>> 0 }]
  })
}

/** The first folder on the way to one of the paths that the account may not pass, or file that it may not read. */
async function firstClosedPath(account: OtherAccount, paths: readonly string[]): Promise<string | undefined> {
  for (const path of paths) {
    if (!(await allows(account, path, 0o4))) return path
    for (let folder = dirname(path); ; folder = dirname(folder)) {
      if (!(await allows(account, folder, 0o1))) return folder
      if (folder === dirname(folder)) break
    }
  }
  return undefined
}

/** By mode bits alone. Where an access list says otherwise the worst is that setpriv is used without need. */
async function allows(account: OtherAccount, path: string, bits: number): Promise<boolean> {
  const { mode, uid, gid } = await stat(path)
  const shift = uid === account.uid ? 6 : gid === account.gid ? 3 : 0
  return ((mode >> shift) & bits) === bits
}
