/** Random programs (see programs.ts), for tests that try many. */
import fc from 'fast-check'
import type { Program, Statement } from './programs.ts'

/**
 * `timeless`: what is recorded does not depend on the order in which things arrive: no races, and nothing fails that is not
 * caught at once, but for the end.
 */
export function randomPrograms(kind: 'timeless' | 'any'): fc.Arbitrary<Program> {
  const { program } = fc.letrec<{ program: Program; statement: Statement }>(tie => {
    const branches = fc.array(tie('program') as fc.Arbitrary<Program>, { minLength: 1, maxLength: 3 })
    const nested: fc.Arbitrary<Statement>[] = [
      fc.record({ parallel: branches }),
      fc.record({ repeat: fc.constantFrom(1, 2), do: tie('program') as fc.Arbitrary<Program> }),
    ]
    if (kind === 'any') nested.push(fc.record({ race: branches }), fc.record({ race: branches }))
    return {
      program: fc.array(tie('statement') as fc.Arbitrary<Statement>, { minLength: 1, maxLength: 3 }),
      statement: fc.oneof(
        { depthSize: 'small', withCrossShrink: true },
        ...(kind === 'any' ? anyStatements() : timelessStatements()),
        ...nested,
      ),
    }
  })
  return program.map(kind === 'any' ? withIds : withIdsAndEnd)
}

const undo = fc.constantFrom<{ undo?: true | { throws: { name: string; message: string } } }>(
  {},
  { undo: true },
  { undo: true },
  { undo: { throws: { name: 'Error', message: 'stuck' } } },
)
const outputs = fc.jsonValue({ maxDepth: 1 }) as fc.Arbitrary<number>
const working = fc.tuple(outputs, undo).map(([gives, undoing]): Statement => ({ run: '', gives, ...undoing }))
const failing = fc
  .integer({ min: 1, max: 3 })
  .map((attempts): Statement => ({ run: '', throws: { name: 'Error', message: 'no' }, attempts }))
const caught = (statements: fc.Arbitrary<Statement>) =>
  statements.map((statement): Statement => ({ try: [statement], catch: [] }))
const sleep = fc.nat(1_000).map((ms): Statement => ({ sleep: '', ms }))
const send = fc.constant<Statement>({ send: '', events: [{ name: 'sent' }] })
const detached = fc.constant<Statement>({ invoke: '', function: 'child', detached: true })

/** Whatever is waited for has a time-out, which is what comes. */
function timelessStatements(): fc.Arbitrary<Statement>[] {
  const timeoutMs = fc.nat(1_000)
  return [
    working,
    working,
    sleep,
    send,
    detached,
    caught(failing),
    timeoutMs.map(ms => ({ wait: '', event: 'e', timeoutMs: ms + 1 })),
    timeoutMs.map(ms => ({ receive: '', signal: 's', timeoutMs: ms })),
    caught(timeoutMs.map(ms => ({ invoke: '', function: 'child', timeoutMs: ms }))),
  ]
}

function anyStatements(): fc.Arbitrary<Statement>[] {
  const child = fc.constant<Statement>({ invoke: '', function: 'child' })
  const rare = fc.constantFrom<Statement>(
    { continue_as_new: 1 },
    { throw: { message: 'enough' } },
    { status: 'busy' },
    { tags: { a: 'b' } },
  )
  return [
    working,
    working,
    working,
    sleep,
    send,
    detached,
    failing,
    caught(failing),
    fc.constant<Statement>({ wait: '', event: 'e' }),
    fc.constant<Statement>({ receive: '', signal: 's' }),
    child,
    caught(child),
    rare,
  ]
}

/** Gives every statement an id of its own, and lets the program return what its top level gave. */
function withIds(statements: Program): Program {
  let count = 0
  const fill = (inner: Program): Program =>
    inner.map(statement => {
      count += 1
      const id = `s${count}`
      if ('run' in statement) return { ...statement, run: id, as: id }
      if ('sleep' in statement) return { ...statement, sleep: id, as: id }
      if ('send' in statement) return { ...statement, send: id, as: id }
      if ('wait' in statement) return { ...statement, wait: id, as: id }
      if ('receive' in statement) return { ...statement, receive: id, as: id }
      if ('invoke' in statement) return { ...statement, invoke: id, as: id }
      if ('try' in statement) return { ...statement, try: fill(statement.try), as: id }
      if ('parallel' in statement) return { parallel: statement.parallel.map(fill), as: id }
      if ('race' in statement) return { race: statement.race.map(fill), as: id }
      if ('repeat' in statement) return { ...statement, do: fill(statement.do), as: id }
      return { ...statement, as: id }
    })
  const filled = fill(statements)
  return [...filled, { return: filled.map(statement => `$${statement.as}`) }]
}

/** Says before each statement how far it is. A program that begins with a step that has an undo fails at its end. */
function withIdsAndEnd(statements: Program): Program {
  const filled = withIds(statements)
  const end = filled.pop() as Statement
  const [first] = filled
  const fails = first !== undefined && 'undo' in first
  const saying = filled.flatMap(
    (statement, at): Program => [
      statement,
      { status: { done: at + 1 } },
      { tags: { [`tag${at % 2}`]: `${at}`, [`tag${(at + 1) % 2}`]: null } },
    ],
  )
  return [...saying, fails ? { throw: { message: 'no seats' } } : end]
}
