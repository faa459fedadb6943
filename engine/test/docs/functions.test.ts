/*
 * docs/functions.md: its code is compiled as its readers would, and does what it says.
 *
 * A section has a `ts` block that exports functions, and one whose first line is `// client`: it sends, and says after
 * `// =>` what an expression gives, or after `// throws` with which code it fails. Both become one module, with each line
 * where it is in the document, so that the compiler's errors and ours name lines of the document.
 */
import { execFile } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import type { DurableFunction, StepwellClient } from '@stepwell/sdk'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startSystem, type TestSystem } from '../support/system.ts'
import { readSnippets, type Snippet } from './snippets.ts'

const DOCS = new URL('../../../docs/', import.meta.url)
const DOCUMENT = await readFile(new URL('functions.md', DOCS), 'utf8')
const SNIPPETS = readSnippets(DOCUMENT)
/** What is true a moment later, such as the state of a run that has been asked to end. */
const PATIENCE_MS = 10_000
const LOOK_MS = 20

interface SnippetModule {
  runClient(client: StepwellClient, is: Is, throws: Throws): Promise<void>
  [name: string]: unknown
}
type Is = (line: number, read: () => Promise<unknown>, expected: unknown, isPart: boolean) => Promise<void>
type Throws = (line: number, act: () => Promise<unknown>, code: string) => Promise<void>

let folder: string
let system: TestSystem

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'stepwell-functions-'))
  await symlink(fileURLToPath(new URL('../../node_modules', import.meta.url)), join(folder, 'node_modules'))
  await writeFile(join(folder, 'package.json'), '{ "type": "module" }')
  await writeFile(join(folder, 'tsconfig.json'), JSON.stringify(TSCONFIG))
  for (const snippet of SNIPPETS) await writeFile(fileOf(snippet), snippet.module)
  system = await startSystem()
})
afterAll(async () => {
  await system?.stop()
  await rm(folder, { recursive: true, force: true })
})

/** As somebody has it who begins today. */
const TSCONFIG = {
  compilerOptions: {
    target: 'es2023',
    lib: ['es2023'],
    module: 'nodenext',
    types: ['node'],
    strict: true,
    noEmit: true,
    // The SDK is there as its source.
    allowImportingTsExtensions: true,
    skipLibCheck: true,
  },
  include: ['*.ts'],
}

function fileOf({ name }: Snippet): string {
  return join(folder, `${name}.ts`)
}

test('the code of docs/functions.md compiles', async () => {
  const tsc = fileURLToPath(new URL('../../node_modules/typescript/bin/tsc', import.meta.url))

  const output = await promisify(execFile)(process.execPath, [tsc, '-p', folder]).then(
    ({ stdout }) => stdout,
    (error: { stdout: string }) => error.stdout,
  )

  expect(output).toBe('')
})

describe('docs/functions.md says what happens:', () => {
  test.each(SNIPPETS)('$title', async snippet => {
    // Written above; its exports are as the document has them.
    const module = (await import(pathToFileURL(fileOf(snippet)).href)) as SnippetModule
    await system.serveApp(Object.values(module).filter(isFunctionOfStepwell))
    let stated = 0

    await module.runClient(
      system.client,
      async (line, read, expected, isPart) => {
        stated += 1
        await expectSoon(async () => {
          const found = expect(await read(), `functions.md:${line}`)
          if (isPart) found.toMatchObject(expected as object)
          else found.toEqual(expected)
        })
      },
      async (line, act, code) => {
        stated += 1
        await expect(act(), `functions.md:${line}`).rejects.toMatchObject({ code })
      },
    )

    expect(stated).toBe(snippet.statements)
    expect(await system.brokenInvariants()).toEqual([])
  })
})

test('every op has its place in the documents', async () => {
  const source = await readFile(new URL('../sdk-ts/src/step.ts', DOCS), 'utf8')
  const [, step = ''] = source.split('export interface Step<')
  const ops = new Set([...step.matchAll(/^ {2}([a-zA-Z]+)[<(]/gm)].map(([, name]) => name as string))
  const files = (await readdir(DOCS)).filter(name => name.endsWith('.md'))
  const texts = await Promise.all(files.map(name => readFile(new URL(name, DOCS), 'utf8')))

  const missing = [...ops].filter(op => !texts.some(text => text.includes(`step.${op}(`)))

  expect(ops.size).toBeGreaterThan(10)
  expect(missing).toEqual([])
})

function isFunctionOfStepwell(value: unknown): value is DurableFunction {
  return typeof value === 'object' && value !== null && 'handler' in value
}

async function expectSoon(look: () => Promise<void>): Promise<void> {
  const untilMs = performance.now() + PATIENCE_MS
  for (;;) {
    try {
      return await look()
    } catch (error) {
      if (performance.now() > untilMs) throw error
    }
    await pause(LOOK_MS)
  }
}
