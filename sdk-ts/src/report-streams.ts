/** The report streams of an app process: one per engine process, workspace and set of keys. */
import { HEADERS, newMessageId, PROTOCOL_VERSION, payloadOf, signHeaders } from '@stepwell/protocol'
import { openReportStream, type ReportStream } from './report-stream.ts'
import { SDK } from './sdk-version.ts'

/** Where no stream could be opened, ask again after that long. */
const REFUSED_MS = 60_000

/** Engines come and go, and each has a URL of its own. */
const MAX_STREAMS = 100

interface Known {
  stream: ReportStream | null
  isOpening: boolean
  refusedUntilMs: number
}

/** Where reports go. */
export interface ReportTarget {
  url: string
  workspace: string
  secrets: readonly string[]
}

/** Opens streams in the background, and knows the open ones. */
export class ReportStreams {
  readonly #known = new Map<string, Known>()

  /** A stream to the target, or null while there is none. */
  find(target: ReportTarget): ReportStream | null {
    const stream = this.#known.get(nameOf(target))?.stream ?? null
    return stream?.isUsable === true ? stream : null
  }

  /** Has a stream opened, if there is none and the last try was not refused a moment ago. Does not wait for it. */
  prepare(target: ReportTarget): void {
    const name = nameOf(target)
    const known = this.#known.get(name) ?? { stream: null, isOpening: false, refusedUntilMs: 0 }
    if (known.isOpening || known.stream?.isUsable === true || performance.now() < known.refusedUntilMs) return
    known.stream?.close()
    known.isOpening = true
    this.#known.delete(name)
    this.#known.set(name, known)
    this.#forgetOldest()
    // Not awaited: reports go as requests meanwhile. Does not reject.
    void openReportStream(target.url, headersFor(target)).then(stream => {
      known.isOpening = false
      known.stream = stream
      // Forgotten meanwhile: nobody would ever close it.
      if (this.#known.get(name) !== known) stream?.close()
      if (stream === null) known.refusedUntilMs = performance.now() + REFUSED_MS
    })
  }

  /** Nothing came back on it: something on the way lets it through and carries nothing. Reports go as requests for a while. */
  giveUp(target: ReportTarget): void {
    const known = this.#known.get(nameOf(target))
    if (known === undefined) return
    known.stream?.close()
    known.refusedUntilMs = performance.now() + REFUSED_MS
  }

  #forgetOldest(): void {
    if (this.#known.size <= MAX_STREAMS) return
    const [oldest] = this.#known
    if (oldest === undefined) return
    oldest[1].stream?.close()
    this.#known.delete(oldest[0])
  }
}

function nameOf({ url, workspace, secrets }: ReportTarget): string {
  return `${url} ${secrets.join(' ')} ${workspace}`
}

function headersFor({ url, workspace, secrets }: ReportTarget): Record<string, string> {
  const { pathname, search } = new URL(url)
  const payload = payloadOf('GET', pathname + search, null)
  return {
    [HEADERS.version]: PROTOCOL_VERSION,
    [HEADERS.workspace]: workspace,
    [HEADERS.sdk]: SDK,
    ...signHeaders({ id: newMessageId(), nowMs: Date.now(), payload, secrets }),
  }
}
