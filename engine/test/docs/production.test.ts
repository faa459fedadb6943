import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { VARIABLES, type Variable } from '../../src/config.ts'

const TEXT = readFileSync(new URL('../../../docs/production.md', import.meta.url), 'utf8')
const ROW = /^\| `(STEPWELL_[A-Z_]+)` *\| *(?:`([^`]+)`)? *\| (.+?) *\|$/gm

test('docs/production.md names every variable once, with its default', () => {
  const rows = [...TEXT.matchAll(ROW)]

  const variables: Variable[] = Object.values(VARIABLES)
  expect(rows.map(([, name]) => name)).toEqual(variables.map(({ name }) => name))
  for (const [, name, preset] of rows) {
    const { default: known } = variables.find(variable => variable.name === name) ?? { default: null }
    if (known !== null) expect(preset).toBe(known)
  }
})
