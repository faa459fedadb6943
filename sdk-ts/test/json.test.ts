import { runInNewContext } from 'node:vm'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { toJsonText } from '../src/json.ts'
import { anEngine } from './harness.ts'

class Point {
  readonly x = 1
  readonly y = 2
}

class Account {
  #balance = 5
  get balance(): number {
    return this.#balance
  }
}

const circular: Record<string, unknown> = { a: { b: {} } }
Object.assign(circular.a as object, { b: circular })

describe('a value that JSON would lose', () => {
  test.each<[string, unknown, string, RegExp]>([
    ['a Map', { items: [1, { when: new Map() }] }, '$.items[1].when', /a Map/],
    ['a Set', new Set([1]), '$', /a Set/],
    ['a function', { f: () => 1 }, '$.f', /a function/],
    ['a method of an instance', Object.assign(new Point(), { go: () => 1 }), '$.go', /a function/],
    ['a symbol', [Symbol('x')], '$[0]', /a symbol/],
    ['a BigInt', { n: 1n }, '$.n', /BigInt/],
    ['NaN', { a: [0, Number.NaN] }, '$.a[1]', /NaN/],
    ['Infinity', { a: Number.NEGATIVE_INFINITY }, '$.a', /-Infinity/],
    ['undefined inside an array', { a: [1, undefined] }, '$.a[1]', /undefined inside an array/],
    ['a hole', { a: new Array(1) }, '$.a[0]', /undefined inside an array/],
    ['a cycle', circular, '$.a.b', /contains itself/],
    ['an Error', { e: new Error('x') }, '$.e', /an Error/],
    ['a Promise', { p: Promise.resolve(1) }, '$.p', /await it/],
    ['a RegExp', { r: /x/ }, '$.r', /a RegExp/],
    ['bytes', { b: new Uint8Array(3) }, '$.b', /a Uint8Array/],
    ['an ArrayBuffer', { b: new ArrayBuffer(3) }, '$.b', /an? ArrayBuffer/],
    ['private fields only', { a: new Account() }, '$.a', /Account/],
    ['URLSearchParams', { q: new URLSearchParams('a=1') }, '$.q', /URLSearchParams/],
    ['an invalid Date', { at: new Date('x') }, '$.at', /invalid Date/],
    ['a Map of another realm', { m: runInNewContext('new Map()') }, '$.m', /Map/],
    ['what toJSON gives', { a: { toJSON: () => ({ b: new Set() }) } }, '$.a.b', /a Set/],
    ['an odd name', { 'a-b': { '': new Set() } }, '$["a-b"][""]', /a Set/],
  ])('is named with its path: %s', (_name, value, path, why) => {
    const read = () => toJsonText(value, 'The output')

    expect(read).toThrow(expect.objectContaining({ code: 'value_not_json' }))
    expect(read).toThrow(`The output cannot be recorded as JSON: ${path}: `)
    expect(read).toThrow(why)
  })

  test('is refused when it is nested deeper than the stack', () => {
    let deep: unknown = 1
    for (let depth = 0; depth < 100_000; depth += 1) deep = [deep]

    expect(() => toJsonText(deep, 'It')).toThrow(/nested too deeply/)
  })

  test('is refused when it cannot be read', () => {
    const value = {
      get broken() {
        throw new Error('no')
      },
    }

    expect(() => toJsonText(value, 'It')).toThrow(/reading it threw/)
  })
})

test.each<[string, unknown, unknown]>([
  ['undefined', undefined, undefined],
  ['zero', 0, 0],
  ['an empty text', '', ''],
  ['false', false, false],
  ['null', null, null],
  ['undefined members', { a: undefined, b: 1 }, { b: 1 }],
  ['a Date', { at: new Date(0) }, { at: '1970-01-01T00:00:00.000Z' }],
  ['a URL', new URL('http://a/b'), 'http://a/b'],
  ['a Buffer', Buffer.from('a'), { type: 'Buffer', data: [97] }],
  ['an instance with fields', { at: new Point() }, { at: { x: 1, y: 2 } }],
  ['an object without a prototype', Object.assign(Object.create(null), { a: 1 }), { a: 1 }],
  ['an object of another realm', runInNewContext('({ a: [1] })'), { a: [1] }],
  ['an empty object of another realm', runInNewContext('({})'), {}],
  ['boxed scalars', [Object(1), Object('a'), Object(true)], [1, 'a', true]],
  ['the same object twice', [circular.x ?? 1, 1], [1, 1]],
  ['a member named __proto__', JSON.parse('{"__proto__":1}'), JSON.parse('{"__proto__":1}')],
  ['half a surrogate pair', '\ud800', '\ud800'],
  ['what is not ASCII', 'Ž東京👍\u0000\u2028', 'Ž東京👍\u0000\u2028'],
  ['a mebibyte', 'é'.repeat(512 * 1024), 'é'.repeat(512 * 1024)],
  ['a thousand levels', nest(1_000), nest(1_000)],
])('a step gives back, live and replayed: %s', async (_name, value, expected) => {
  const seen: unknown[] = []
  const engine = await anEngine(async ({ step }) => {
    seen.push(await step.run('value', () => value))
    await step.sleep('rest', '1s')
    return value
  })

  const run = await engine.drive(engine.start('fn'))

  expect(seen).toHaveLength(2)
  for (const given of seen) expect(given).toEqual(expected)
  expect(run.ended?.output).toEqual(expected)
})

test('every JSON value comes back as it was', async () => {
  await fc.assert(
    fc.asyncProperty(fc.jsonValue({ noUnicodeString: false }), async value => {
      const text = toJsonText(value, 'It') ?? ''

      expect(JSON.parse(text)).toEqual(JSON.parse(JSON.stringify(value)))
    }),
  )
})

test('nothing makes it throw anything but a StepwellError', () => {
  fc.assert(
    fc.property(
      fc.anything({
        withMap: true,
        withSet: true,
        withBigInt: true,
        withSparseArray: true,
        withDate: true,
        withTypedArray: true,
        withNullPrototype: true,
      }),
      value => {
        let text: string | undefined
        try {
          text = toJsonText(value, 'It')
        } catch (error) {
          expect(error).toMatchObject({ name: 'StepwellError', code: 'value_not_json' })
          return
        }
        expect(text).toBe(JSON.stringify(value))
      },
    ),
    { numRuns: 2_000 },
  )
})

test('an output over the limit fails the step with its size, and is not tried again', async () => {
  let count = 0
  const engine = await anEngine(({ step }) =>
    step.run('large', () => {
      count += 1
      return 'x'.repeat(1_100_000)
    }),
  )

  const run = await engine.drive(engine.start('fn'))

  expect(run.ended?.error).toMatchObject({ code: 'step_output_too_large', message: expect.stringContaining('1100002') })
  expect(count).toBe(1)
})

test('an output that is no JSON fails the step, names it and the path, and is not tried again', async () => {
  let count = 0
  const engine = await anEngine(({ step }) =>
    step.run('load', () => {
      count += 1
      return { users: new Map() }
    }),
  )

  const run = await engine.drive(engine.start('fn'))

  expect(run.ended?.error).toMatchObject({ code: 'value_not_json' })
  expect(run.ended?.error?.message).toMatch(/step "load".*\$\.users/)
  expect(count).toBe(1)
})

test('a return value that is no JSON fails the run and names the function', async () => {
  const engine = await anEngine(() => ({ users: new Set() }))

  const run = await engine.drive(engine.start('fn'))

  expect(run.ended?.error).toMatchObject({ code: 'value_not_json', message: expect.stringContaining('"fn"') })
})

test('a handler may return the values of steps that gave nothing', async () => {
  const engine = await anEngine(({ step }) => Promise.all([step.run('a', () => {}), step.run('b', () => 1)]))

  const run = await engine.drive(engine.start('fn'))

  expect(run.ended).toEqual({ output: [null, 1] })
})

function nest(depth: number): unknown {
  let value: unknown = 1
  for (let level = 0; level < depth; level += 1) value = { value }
  return value
}
