import { html } from 'hono/html'
import type { LedgerLine } from './outside/ledger.ts'

const SHOWN_LINES = 200

/** What Gatekeeper did lately, newest first, as a page. */
export function statusPage(lines: readonly LedgerLine[]) {
  const rows = lines.slice(-SHOWN_LINES).toReversed()
  return html`<!doctype html>
    <html lang="en">
      <meta charset="utf-8" />
      <meta name="viewport" content="width=device-width" />
      <title>Gatekeeper</title>
      <style>
        body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
        td { padding: 0.1rem 1rem 0.1rem 0; vertical-align: top } .kind { color: #666 }
      </style>
      <h1>Gatekeeper</h1>
      <p>Shepherds pull requests, new users and orders. The last ${rows.length} things that happened, newest first:</p>
      <table>
        ${rows.map(
          line =>
            html`<tr><td>${line.at.slice(11, 23)}</td><td class="kind">${line.kind}</td><td>${textOf(line)}</td></tr>`,
        )}
      </table>
    </html>`
}

/** One line of the ledger for people. */
export function textOf(line: LedgerLine): string {
  switch (line.kind) {
    case 'execution':
      return `${line.function}: ${line.step}, attempt ${line.attempt}`
    case 'effect':
      return `${line.service} ${line.action}: ${line.what}`
    case 'repeat':
      return `${line.service} ${line.action} asked for again, nothing done: ${line.what}`
    case 'refusal':
      return `${line.service} ${line.action} refused: ${line.why}`
  }
}
