import { readFileSync } from 'node:fs'
import { ERROR_CODES } from '@stepwell/protocol'
import { expect, test } from 'vitest'

const TEXT = readFileSync(new URL('../../../docs/errors.md', import.meta.url), 'utf8')
const ROW = /^\| `([a-z_]+)` *\| (.+?) *\| (.+?) *\|$/gm

test('docs/errors.md explains every code, and no other, once', () => {
  const rows = [...TEXT.matchAll(ROW)]

  expect(rows.map(([, code]) => code).sort()).toEqual([...ERROR_CODES].sort())
  for (const [, , meaning, remedy] of rows) {
    expect(meaning).toMatch(/^[A-Z0-9].*\.$/)
    expect(remedy).toMatch(/^[A-Z0-9`].*\.$/)
  }
})
