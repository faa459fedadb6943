/**
 * Several turns in one request (SPEC.md 3.1): they run side by side, and the response brings the last report of each as soon
 * as it has ended, in signed frames. What ends within one macrotask shares a frame.
 */
import { encodeFrame, LIMITS, type SignedHeaders } from '@stepwell/protocol'
import { nextMacrotask } from './macrotask.ts'

/** Room for what stands around the reports in a frame. */
const ENVELOPE_BYTES = 1_024

/**
 * Executes turns and yields the frames of the response.
 * @param input `execute` gives the text of a turn's last report and does not reject; `sign` gives the headers of a payload
 */
export async function* executeBatch<Turn>(input: {
  turns: readonly Turn[]
  workspace: string
  execute: (turn: Turn) => Promise<string>
  sign: (payload: string) => SignedHeaders
}): AsyncGenerator<Buffer> {
  const ended: string[] = []
  let left = input.turns.length
  let wake = () => {}
  for (const turn of input.turns) {
    // Not awaited: they run side by side.
    void input.execute(turn).then(text => {
      ended.push(text)
      left -= 1
      wake()
    })
  }
  while (left > 0 || ended.length > 0) {
    if (ended.length === 0) {
      await new Promise<void>(resolve => {
        wake = resolve
      })
    }
    await nextMacrotask()
    const payload = `{"kind":"reports","workspace":${JSON.stringify(input.workspace)},"reports":[${take(ended).join(',')}]}`
    yield encodeFrame(input.sign(payload), payload)
  }
}

/** As many as one frame holds; one that is too large for that goes alone. */
function take(ended: string[]): string[] {
  let bytesLeft = LIMITS.bodyBytes - ENVELOPE_BYTES
  let count = 0
  for (const text of ended) {
    bytesLeft -= Buffer.byteLength(text) + 1
    if (count > 0 && bytesLeft < 0) break
    count += 1
  }
  return ended.splice(0, count)
}
