import { describe, expect, test } from 'vitest'
import { explainDatabase } from '../../src/cli/database-url.ts'

const away = { code: 'ECONNREFUSED' }

describe('a database that does not let us in', () => {
  test.each([
    ['postgres://u:hunter2@h:6000/shop', 'database "shop" at h:6000 '],
    ['postgres://u:hunter2@h/shop?sslmode=require', 'database "shop" at h:5432 '],
    ['postgresql://u:hunter2@a:1,b/shop', 'database "shop" at a:1, b:5432 '],
    ['postgres://u:hunter2@[::1]:6000/shop', 'database "shop" at [::1]:6000 '],
    ['postgres://u:hunter2@h', 'database at h:5432 '],
    ['postgres://u:hunter2@/shop?host=%2Frun%2Fpg&port=5432', 'database "shop" at /run/pg '],
    ['postgres://u:hun@ter2@h/shop', 'database "shop" at h:5432 '],
    ['postgres://u:1/hunter2@h/shop', 'database cannot'],
    ['postgres://u:1?hunter2@h/shop', 'database cannot'],
  ])('is named from %s, without its password', (url, named) => {
    const said = explainDatabase(away, { DATABASE_URL: url })

    expect(said).toContain(`The ${named}`)
    expect(said).not.toMatch(/hun|ter2/)
  })

  test.each([
    ['ECONNREFUSED', 'cannot be reached (ECONNREFUSED). Check DATABASE_URL, and that Postgres runs.'],
    ['28P01', 'refuses the user or the password. Check DATABASE_URL.'],
    ['3D000', 'does not exist. Create it, or check DATABASE_URL.'],
  ])('is explained for %s', (code, said) => {
    expect(explainDatabase({ code }, { DATABASE_URL: 'postgres://h/d' })).toBe(`The database "d" at h:5432 ${said}`)
  })

  test('is that of the variable that was read', () => {
    const both = { STEPWELL_DATABASE_URL: 'postgres://a/a', DATABASE_URL: 'postgres://b/b' }

    expect(explainDatabase(away, both)).toMatch(/"a" at a:5432.*Check STEPWELL_DATABASE_URL,/)
    expect(explainDatabase(away, { ...both, STEPWELL_DATABASE_URL: ' ' })).toMatch(/"b".*Check DATABASE_URL,/)
  })

  test('is not explained when nothing names one, or the error is another one', () => {
    expect(explainDatabase(away, {})).toBeNull()
    expect(explainDatabase({ code: '42601' }, { DATABASE_URL: 'postgres://h/d' })).toBeNull()
    expect(explainDatabase(new Error('x'), { DATABASE_URL: 'postgres://h/d' })).toBeNull()
  })
})
