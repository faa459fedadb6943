/**
 * Everything the outside world did, one JSON line each, appended and never changed. A killed app finds on disk what its
 * providers have already done, as it would with a real bank: that is what makes a second charge under the same key a
 * no-op. The lines are also the witness of the demo and the tests: they count how often each step body was executed.
 *
 * It stands in for the databases of several companies, so its memory grows with the file: it is no part of the product.
 */
import { appendFileSync, mkdirSync, readFileSync } from 'node:fs'
import { dirname } from 'node:path'

/** What somebody asks of a provider. */
export interface Effect {
  /** Whose it is: `payments`. */
  service: string
  /** What was asked: `charge`. */
  action: string
  /** The idempotency key: the same key asks for the same thing, and gets it once. */
  key: string
  /** For people: `49.00 EUR for order o-1`. */
  what: string
}

export type LedgerEntry =
  /** A step body has started. One that is killed has a line too. */
  | { kind: 'execution'; function: string; run: string; step: string; attempt: number }
  /** It happened, and this is what the provider answered. */
  | ({ kind: 'effect'; result: unknown } & Effect)
  /** Asked for again under a known key: nothing happened, the first answer was given. */
  | ({ kind: 'repeat' } & Effect)
  /** The provider said no. */
  | ({ kind: 'refusal'; why: string } & Effect)

export type LedgerLine = LedgerEntry & { at: string; pid: number }

export interface Ledger {
  append(entry: LedgerEntry): void
  /** Does it once per service, action and key; asked again, gives the first result back. */
  once<Result>(effect: Effect, make: () => Result): Result
  /** In the order in which it happened. */
  lines(): readonly LedgerLine[]
}

/**
 * Opens the file, which is made when it is not there.
 * @param options.pid who writes, so that a reader sees where one process ended and the next began
 */
export function openLedger(options: { path: string; now: () => Date; pid: number }): Ledger {
  const { path, now, pid } = options
  mkdirSync(dirname(path), { recursive: true })
  const { lines, isCut } = readLedger(path)
  const results = new Map<string, unknown>()
  for (const line of lines) if (line.kind === 'effect') results.set(nameOf(line), line.result)
  if (isCut) appendFileSync(path, '\n')

  function append(entry: LedgerEntry): void {
    const line = { at: now().toISOString(), pid, ...entry }
    // Synchronous on purpose: what has happened must be on disk before the caller can be killed.
    appendFileSync(path, `${JSON.stringify(line)}\n`)
    lines.push(line)
  }

  return {
    append,
    once<Result>(effect: Effect, make: () => Result): Result {
      const name = nameOf(effect)
      if (results.has(name)) {
        append({ kind: 'repeat', ...effect })
        // The result was put there under the same service and action, so by the same `make`.
        return results.get(name) as Result
      }
      const result = make()
      append({ kind: 'effect', ...effect, result })
      results.set(name, result)
      return result
    },
    lines: () => lines,
  }
}

/** The lines of a ledger, without opening it for writing; none when the file is not there yet. */
export function readLedger(path: string): { lines: LedgerLine[]; isCut: boolean } {
  const text = readText(path)
  // A process killed while it wrote leaves half a line: that effect was never confirmed to anybody.
  const isCut = text !== '' && !text.endsWith('\n')
  const lines = text.split('\n').flatMap(line => parseLine(line))
  return { lines, isCut }
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return ''
    throw error
  }
}

function parseLine(line: string): LedgerLine[] {
  if (line === '') return []
  try {
    // The file is ours; only its last line can be cut off, and then it is no JSON.
    return [JSON.parse(line) as LedgerLine]
  } catch {
    return []
  }
}

function nameOf({ service, action, key }: Effect): string {
  return `${service}.${action} ${key}`
}
