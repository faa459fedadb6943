/*
 * The code of a document as modules that can be compiled and run. Whatever does not follow the convention of
 * functions.test.ts is refused, so that no block goes untested.
 */

/** One section's code. */
export interface Snippet {
  /** For the file. */
  name: string
  title: string
  /** Has the lines of the document, where they are in the document. */
  module: string
  /** How often its client says what happens. */
  statements: number
}

interface Block {
  section: string
  isClient: boolean
  /** Of the line after the opening fence, from 0. */
  start: number
  lines: string[]
}

const STATES = /^(\s*)(.+?)\s+\/\/ (=>|throws) (.+)$/
/** At the end of a value that says only some members. */
const MORE = ', … }'
const ACTS = /client\.(?:send|sendAndWait|signal|cancel)\(/
const HEAD = "import type { StepwellClient } from '@stepwell/sdk'; "
const CLIENT =
  'export async function runClient(client: StepwellClient, ' +
  'is: (line: number, read: () => Promise<unknown>, expected: unknown, isPart: boolean) => Promise<void>, ' +
  'throws: (line: number, act: () => Promise<unknown>, code: string) => Promise<void>) { void [is, throws];'

/** @throws Error that names the line, when a block does not follow the convention */
export function readSnippets(document: string): Snippet[] {
  const blocks = readBlocks(document)
  const snippets: Snippet[] = []
  for (let at = 0; at < blocks.length; at += 2) {
    const [functions, client] = [blocks[at] as Block, blocks[at + 1]]
    if (functions.isClient) throw wrong(functions.start, 'a client without functions before it')
    if (!functions.lines.some(line => /^export const \w+ = createFunction/.test(line)))
      throw wrong(functions.start, 'exports no function')
    if (client === undefined || !client.isClient || client.section !== functions.section)
      throw wrong(functions.start, 'is not followed by a block that begins with // client, in its section')
    snippets.push(toSnippet(functions, client))
  }
  return snippets
}

function readBlocks(document: string): Block[] {
  const blocks: Block[] = []
  let section = ''
  let open: Block | null = null
  for (const [index, line] of document.split('\n').entries()) {
    const fence = /^\s*```(.*)$/.exec(line)
    if (open !== null) {
      if (fence === null) open.lines.push(line)
      else open = null
    } else if (fence !== null) {
      if (fence[1] !== 'ts') throw wrong(index, `is a block of "${fence[1]}"; only ts is run`)
      open = { section, isClient: false, start: index + 1, lines: [] }
      blocks.push(open)
    } else if (line.startsWith('#')) section = line.replace(/^#+ /, '')
  }
  for (const block of blocks) block.isClient = block.lines[0] === '// client'
  return blocks
}

function toSnippet(functions: Block, client: Block): Snippet {
  let statements = 0
  const stated = client.lines.slice(1).map((line, index) => {
    const states = STATES.exec(line)
    if (states === null) return line
    const [, indent = '', expression = '', how, value = ''] = states
    const number = client.start + index + 2
    statements += 1
    if (how === 'throws') return `${indent}await throws(${number}, async () => ${expression}, '${value}')`
    // It is looked at again until it holds.
    if (ACTS.test(expression)) throw wrong(number - 1, 'states something about what it does; give it a name first')
    const isPart = value.endsWith(MORE)
    const expected = isPart ? `${value.slice(0, -MORE.length)} }` : value
    return `${indent}await is(${number}, async () => (${expression}), (${expected}), ${isPart})`
  })
  if (statements === 0) throw wrong(client.start, 'states nothing: say what happens after // => or // throws')
  const lines: string[] = [HEAD, ...new Array<string>(functions.start - 1).fill(''), ...functions.lines]
  while (lines.length < client.start) lines.push('')
  lines.push(CLIENT, ...stated, '}')
  const name = functions.section.toLowerCase().replace(/[^a-z0-9]+/g, '-')
  return { name: `${functions.start}-${name}`, title: functions.section, module: lines.join('\n'), statements }
}

function wrong(index: number, why: string): Error {
  return new Error(`functions.md:${index + 1}: the block ${why}.`)
}
