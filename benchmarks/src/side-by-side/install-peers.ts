/*
 * The peers are a package of their own, outside the workspace, with a lockfile: only who measures them installs them.
 */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const FOLDER = fileURLToPath(new URL('../../peers/', import.meta.url))
/** pnpm writes it when an install is complete. */
const INSTALLED = `${FOLDER}node_modules/.modules.yaml`
const PEERS_MIB = 100

/** Installs them unless they are there. Gives why not, or null. */
export async function installPeers(say: (text: string) => void): Promise<string | null> {
  if (existsSync(INSTALLED)) return null
  say(`Installing the peers into benchmarks/peers, once: about ${PEERS_MIB} MiB to download.`)
  const args = [
    '--yes',
    'pnpm',
    'install',
    '--ignore-workspace',
    '--frozen-lockfile',
    '--ignore-scripts',
    '--dir',
    FOLDER,
  ]
  const code = await new Promise<number | null>(resolve => {
    // Its progress is the person's to see.
    const child = spawn('npx', args, { cwd: FOLDER, stdio: ['ignore', 'inherit', 'inherit'] })
    child.once('error', () => resolve(null))
    child.once('close', resolve)
  })
  if (code === 0 && existsSync(INSTALLED)) return null
  return 'The peers could not be installed (no network?); Stepwell is measured alone. Start again to try again.'
}
