/**
 * Run as a process of its own by tests of report streams: answers one request, and ends when nothing is left that keeps
 * it alive. Its handler takes steps until the engine asks it to stop.
 */
import { createFunction, serve } from '../src/index.ts'
import { KEY } from './engine-double.ts'

const endless = createFunction({
  id: 'fn',
  trigger: { event: 'n' },
  handler: async ({ step }) => {
    for (;;) await step.run('more', () => null)
  },
})

const { headers, body } = JSON.parse(process.argv[2] ?? '') as { headers: [string, string][]; body: string }
const response = await serve([endless], { signingKey: KEY })(
  new Request('http://app/api/stepwell', { method: 'POST', headers, body }),
)
console.log(JSON.stringify({ headers: [...response.headers], body: await response.text() }))
