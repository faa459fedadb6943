import { readDevFile } from './dev-file.ts'

const ASK_TIMEOUT_MS = 1_000

/** One sentence about who has the port, and what to do. Null when the error is not about a port that is taken. */
export async function explainPort(error: unknown, port: number, home: string): Promise<string | null> {
  const { code } = error as NodeJS.ErrnoException
  if (code === 'EACCES') return `Port ${port} may not be used by this account. Choose one above 1023 with --port.`
  if (code !== 'EADDRINUSE') return null
  const another = `Choose another one with --port, for example --port ${port === 65_535 ? 3031 : port + 1}.`
  if (!(await isStepwell(port)))
    return `Port ${port} is taken by another program. Stop it, or choose another port: --port ${port + 1}.`
  const { url, pid } = await readDevFile(home)
  const who = pid !== undefined && url?.endsWith(`:${port}`) ? ` (process ${pid})` : ''
  return `Port ${port} is taken by another Stepwell${who}. Use that one, or stop it. ${another}`
}

async function isStepwell(port: number): Promise<boolean> {
  try {
    const response = await fetch(`http://127.0.0.1:${port}/livez`, { signal: AbortSignal.timeout(ASK_TIMEOUT_MS) })
    const answer: unknown = await response.json()
    // One that is still starting answers with a problem document of ours.
    return /"name":"stepwell"|urn:stepwell:/.test(JSON.stringify(answer))
  } catch {
    return false
  }
}
