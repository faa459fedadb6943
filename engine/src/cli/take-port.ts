import { readDevFile } from './dev-file.ts'
import { type Listening, listen } from './listen.ts'
import type { Terminal } from './terminal.ts'

const ASK_TIMEOUT_MS = 1_000
const PORT_MAX = 65_535

/** Listens, or says why that cannot be and gives null. The first thing to do: an engine too many stops here. */
export async function takePort(options: {
  hosts: readonly string[]
  port: number
  home: string
  terminal: Terminal
}): Promise<Listening | null> {
  try {
    return await listen(options.hosts, options.port)
  } catch (error) {
    const message = await explainListen(error, options.port, options.home)
    if (message === null) throw error
    options.terminal.warn(message)
    return null
  }
}

/** One sentence about why we cannot listen, and what to do. Null when the error is about something else. */
async function explainListen(error: unknown, port: number, home: string): Promise<string | null> {
  switch ((error as NodeJS.ErrnoException).code) {
    case 'EADDRINUSE':
      return `Port ${port} is taken by ${await nameHolder(port, home)}. Stop it, or choose another port: --port ${port === PORT_MAX ? port - 1 : port + 1}.`
    case 'EACCES':
      return `Port ${port} may not be used by this account. Choose one above 1023 with --port.`
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
      return 'This machine does not have the address that it should listen on. Check STEPWELL_HOST.'
    default:
      return null
  }
}

async function nameHolder(port: number, home: string): Promise<string> {
  if (!(await isStepwell(port))) return 'another program'
  const { url, pid } = await readDevFile(home)
  return pid !== undefined && url?.endsWith(`:${port}`) ? `another Stepwell (process ${pid})` : 'another Stepwell'
}

async function isStepwell(port: number): Promise<boolean> {
  try {
    const response = await fetch(`http://127.0.0.1:${port}/livez`, { signal: AbortSignal.timeout(ASK_TIMEOUT_MS) })
    // One that is still starting answers with a problem document of ours.
    return /"name":"stepwell"|urn:stepwell:/.test(await response.text())
  } catch {
    return false
  }
}
