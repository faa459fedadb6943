import { homedir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { type Config, type Flags, readConfig, VARIABLES } from '../../src/config.ts'

const KEY = `whsec_${Buffer.alloc(32, 7).toString('base64')}`

function configOf(env: Record<string, string>, flags: Flags = {}): Config {
  const result = readConfig(env, flags)
  if (!result.ok) throw new Error(result.mistakes.join('\n'))
  return result.config
}

function mistakesOf(env: Record<string, string>, flags: Flags = {}, required: Parameters<typeof readConfig>[2] = []) {
  const result = readConfig(env, flags, required)
  return result.ok ? [] : result.mistakes
}

describe('what can be set', () => {
  test('has these defaults', () => {
    expect(configOf({})).toEqual({
      databaseUrl: null,
      host: null,
      port: 3030,
      selfUrl: null,
      signingKeys: null,
      workspace: null,
      home: join(homedir(), '.stepwell'),
      concurrency: 512,
      leaseMs: 10_000,
      turnTimeoutMs: 30_000,
      turnBudgetMs: 20_000,
      drainMs: 30_000,
      logLevel: null,
    })
  })

  test('is read from the environment', () => {
    const config = configOf({
      STEPWELL_DATABASE_URL: 'postgres://u:p@h/db',
      STEPWELL_PORT: '0',
      STEPWELL_SELF_URL: 'https://engine-1.internal',
      STEPWELL_SIGNING_KEY: ` ${KEY}, ${KEY} `,
      STEPWELL_WORKSPACE: 'shop/prod',
      STEPWELL_CONCURRENCY: '1',
      STEPWELL_LEASE: '1m30s',
      STEPWELL_TURN_TIMEOUT: 'PT2M',
      STEPWELL_TURN_BUDGET: '250ms',
      STEPWELL_DRAIN_TIMEOUT: '0s',
      STEPWELL_LOG_LEVEL: 'warn',
    })

    expect(config).toMatchObject({
      databaseUrl: 'postgres://u:p@h/db',
      port: 0,
      selfUrl: 'https://engine-1.internal',
      signingKeys: [KEY, KEY],
      workspace: 'shop/prod',
      concurrency: 1,
      leaseMs: 90_000,
      turnTimeoutMs: 120_000,
      turnBudgetMs: 250,
      drainMs: 0,
      logLevel: 'warn',
    })
  })

  test('comes from a flag before the environment, and from the environment before a default', () => {
    const env = { STEPWELL_PORT: '4000' }

    expect(configOf(env, { port: { flag: '--port', value: '5000' } }).port).toBe(5000)
    expect(configOf(env).port).toBe(4000)
  })

  test('takes DATABASE_URL when STEPWELL_DATABASE_URL is not set', () => {
    const both = { STEPWELL_DATABASE_URL: 'postgres://a/a', DATABASE_URL: 'postgres://b/b' }

    expect(configOf({ DATABASE_URL: 'postgres://b/b' }).databaseUrl).toBe('postgres://b/b')
    expect(configOf(both).databaseUrl).toBe('postgres://a/a')
  })

  test('counts an empty variable as not set', () => {
    expect(configOf({ STEPWELL_PORT: '', STEPWELL_HOME: ' ' })).toEqual(configOf({}))
  })

  test('has a unit and an explanation for everything', () => {
    for (const variable of Object.values(VARIABLES)) {
      expect(variable.name).toMatch(/^STEPWELL_[A-Z_]+$/)
      expect(variable.unit).not.toBe('')
      expect(variable.what).toMatch(/\.$/)
    }
  })
})

describe('mistakes', () => {
  test.each([
    ['STEPWELL_PORT', '70000', 'whole number from 0 to 65535'],
    ['STEPWELL_PORT', '3030.5', 'whole number'],
    ['STEPWELL_CONCURRENCY', '0', 'whole number from 1'],
    ['STEPWELL_LEASE', '10', '"10" has no unit'],
    ['STEPWELL_LEASE', '500ms', 'from 1s'],
    ['STEPWELL_TURN_TIMEOUT', '1month', 'months and years'],
    ['STEPWELL_SELF_URL', 'engine:3030', 'http://'],
    ['STEPWELL_WORKSPACE', 'shop', 'app/environment'],
    ['STEPWELL_LOG_LEVEL', 'loud', 'trace, debug'],
    ['STEPWELL_SIGNING_KEY', 'whsec_abc', 'whsec_'],
    ['STEPWELL_SIGNING_KEY', ',', 'whsec_'],
    ['STEPWELL_DATABASE_URL', 'mysql://u:p@h/db', 'postgres://'],
    ['STEPWELL_DATABASE_URL', 'postgres://u:p#w@h/db', 'encoded'],
  ])('%s=%s is one', (name, value, said) => {
    const mistakes = mistakesOf({ [name]: value })

    expect(mistakes).toHaveLength(1)
    expect(mistakes[0]).toContain(`${name}: `)
    expect(mistakes[0]).toContain(said)
  })

  test('are told all at once, by the flag or variable that they are in', () => {
    const flags = { port: { flag: '--port', value: 'x' } }

    const mistakes = mistakesOf({ STEPWELL_LEASE: 'x', STEPWELL_PORT: '1' }, flags, ['databaseUrl', 'signingKeys'])

    expect(mistakes.map(mistake => mistake.split(/[: ]/)[0])).toEqual([
      'STEPWELL_DATABASE_URL',
      '--port',
      'STEPWELL_SIGNING_KEY',
      'STEPWELL_LEASE',
    ])
    expect(mistakes[0]).toContain('(or DATABASE_URL) is not set')
    expect(mistakes[2]).toBe(
      'STEPWELL_SIGNING_KEY is not set. Make one with: echo whsec_$(openssl rand -base64 32)  and give the same one to the app.',
    )
  })

  test('never show a secret', () => {
    const secret = 'hunter2hunter2'

    const mistakes = mistakesOf({
      STEPWELL_SIGNING_KEY: `whsec_${secret}`,
      STEPWELL_DATABASE_URL: `postgres://u:${secret}#@h/db`,
    })

    expect(mistakes).toHaveLength(2)
    expect(mistakes.join()).not.toContain(secret)
  })
})

describe('a variable that is not known', () => {
  test.each([
    ['STEPWELL_PROT', 'STEPWELL_PORT'],
    ['STEPWELL_SIGNINGKEY', 'STEPWELL_SIGNING_KEY'],
    ['STEPWELL_DATABASEURL', 'STEPWELL_DATABASE_URL'],
  ])('%s is a warning that names %s', (name, nearest) => {
    const result = readConfig({ [name]: '1' }, {})

    expect(result).toMatchObject({ ok: true, warnings: [expect.stringContaining(`Did you mean ${nearest}?`)] })
  })

  test.each(['STEPWELL_URL', 'STEPWELL_APP_URL', 'STEPWELL_TEST_GENERIC_PLANS', 'PATH'])('%s is none of ours', name => {
    expect(readConfig({ [name]: '1' }, {})).toMatchObject({ ok: true, warnings: [] })
  })

  test('that is like nothing else gets no guess', () => {
    const result = readConfig({ STEPWELL_QQQQQQQQQQQQQQQQ: '1' }, {})

    expect(result.ok ? result.warnings : []).toEqual(['STEPWELL_QQQQQQQQQQQQQQQQ is not known and has no effect.'])
  })
})
