/*
 * Random functions as data, and the handler that executes them. What a program does follows from the program alone,
 * whatever happens on the way: so it can be compared with what the model says (model.ts).
 */

import { createFunction, type Step } from '@stepwell/sdk'
import fc from 'fast-check'

/** Ids are unique within a generation; `fills` below sees to that. */
export type Statement =
  /** Fails `fails` times; a fatal one fails for ever. */
  | { kind: 'step'; id: string; fails: number; isFatal: boolean; undo: boolean }
  | { kind: 'sleep'; id: string; ms: number }
  /** A message under a name of its own branch: `count` of them, one after the other. */
  | { kind: 'receive'; id: string; count: number }
  /** An event under a name of its own, which somebody sends before or after the wait. */
  | { kind: 'event'; id: string }
  | { kind: 'invoke'; id: string; program: Program; isDetached: boolean }
  | { kind: 'map'; id: string; items: number; concurrency: number }
  | { kind: 'poll'; id: string; tries: number }
  | { kind: 'say'; id: string }
  | { kind: 'chance'; id: string }
  | { kind: 'publish'; id: string; isAwaited: boolean }
  | { kind: 'parallel'; id: string; branches: Statement[][] }
  | { kind: 'try'; id: string; body: Statement[] }

export interface Program {
  statements: Statement[]
  end: 'return' | 'throw' | { next: Program }
}

export interface ProgramEvent {
  /** Names the run in the ledger; children are `label/id`. */
  label: string
  program: Program
}

/** Every execution of a body: `label generation id`. */
export type Ledger = string[]

/** The one function of the model: it executes the program that its event brings. */
export function programFunction(ledger: Ledger) {
  const program = createFunction({
    id: 'program',
    trigger: { event: 'model.start' },
    retries: { limit: 3, minDelay: 1, maxDelay: 5 },
    tags: { label: 'label' },
    handler({ event, step, run }) {
      // Only the model sends these events, and runs of this function invoke it with the like.
      const data = event.data as ProgramEvent
      return new Execution(ledger, step, data, run.generation).run()
    },
  })
  return program
}

class Execution {
  readonly #ledger: Ledger
  readonly #step: Step
  readonly #event: ProgramEvent
  readonly #generation: number

  constructor(ledger: Ledger, step: Step, event: ProgramEvent, generation: number) {
    this.#ledger = ledger
    this.#step = step
    this.#event = event
    this.#generation = generation
  }

  async run(): Promise<unknown> {
    const { program, label } = this.#event
    const values = await this.#all(program.statements)
    if (program.end === 'throw') throw new Error(`the end of ${label}`)
    if (program.end === 'return') return values
    return this.#step.continueAsNew({ label, program: program.end.next })
  }

  async #all(statements: Statement[]): Promise<unknown[]> {
    const values: unknown[] = []
    for (const statement of statements) values.push(await this.#one(statement))
    return values
  }

  #note(id: string): void {
    this.#ledger.push(`${this.#event.label} ${this.#generation} ${id}`)
  }

  async #one(statement: Statement): Promise<unknown> {
    const step = this.#step
    const { id } = statement
    switch (statement.kind) {
      case 'step': {
        const body = ({ attempt }: { attempt: number }) => {
          this.#note(id)
          if (statement.isFatal || attempt <= statement.fails) throw new Error(`fatal ${id}`)
          return `did ${id}`
        }
        return step.run(id, body, statement.undo ? { undo: () => this.#note(`undo:${id}`) } : {})
      }
      case 'sleep':
        await step.sleep(id, statement.ms)
        return 'slept'
      case 'receive': {
        const got: unknown[] = []
        for (let n = 0; n < statement.count; n += 1) got.push((await step.waitForSignal(id, id))?.data)
        return got
      }
      case 'event':
        return (await step.waitForEvent(id, { event: `model.${this.#event.label}.${id}` }))?.data.n
      case 'invoke': {
        const data = { label: `${this.#event.label}/${id}`, program: statement.program }
        if (statement.isDetached) {
          await step.invoke(id, { function: 'program', data, detached: true })
          return 'detached'
        }
        return step.invoke(id, { function: 'program', data })
      }
      case 'map': {
        const items = Array.from({ length: statement.items }, (_, n) => n)
        const body = (n: number, { index }: { index: number }) => {
          this.#note(`${id}:${index}`)
          return n * 2
        }
        return step.map(id, items, body, { concurrency: statement.concurrency })
      }
      case 'poll': {
        // The n-th try is the n-th use of its id: what it gives follows from that, and not from a variable of this process.
        const body = ({ idempotencyKey }: { idempotencyKey: string }) =>
          Number(/#(\d+)$/.exec(idempotencyKey)?.[1] ?? 1)
        return step.poll(id, body, { every: 1, until: n => n >= statement.tries })
      }
      case 'say':
        step.setStatus(id)
        step.setTags({ said: id })
        return 'said'
      case 'publish': {
        const published = step.publish('log', `${this.#generation} ${id}`)
        if (statement.isAwaited) await published
        return 'published'
      }
      case 'chance':
        return [typeof step.random(), step.uuid().length, step.now() instanceof Date].join()
      case 'parallel':
        return Promise.all(statement.branches.map(branch => this.#all(branch)))
      case 'try':
        try {
          return await this.#all(statement.body)
        } catch (error) {
          return `caught ${(error as Error).message}`
        }
    }
  }
}

const { statement } = fc.letrec<{ statement: Statement }>(tie => ({
  statement: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    fc.record({
      kind: fc.constant('step'),
      id: fc.constant(''),
      fails: fc.nat(2),
      isFatal: fc.constant(false),
      undo: fc.boolean(),
    }),
    fc.record({ kind: fc.constant('sleep'), id: fc.constant(''), ms: fc.nat(30) }),
    fc.record({ kind: fc.constant('receive'), id: fc.constant(''), count: fc.integer({ min: 1, max: 3 }) }),
    fc.record({ kind: fc.constant('event'), id: fc.constant('') }),
    fc.record({
      kind: fc.constant('invoke'),
      id: fc.constant(''),
      program: fc.record({
        statements: fc.array(tie('statement'), { maxLength: 2 }),
        end: fc.constantFrom('return', 'return', 'throw'),
      }),
      isDetached: fc.boolean(),
    }),
    fc.record({
      kind: fc.constant('map'),
      id: fc.constant(''),
      items: fc.nat(4),
      concurrency: fc.integer({ min: 1, max: 3 }),
    }),
    fc.record({ kind: fc.constant('poll'), id: fc.constant(''), tries: fc.integer({ min: 1, max: 3 }) }),
    fc.record({ kind: fc.constant('say'), id: fc.constant('') }),
    fc.record({ kind: fc.constant('chance'), id: fc.constant('') }),
    fc.record({ kind: fc.constant('publish'), id: fc.constant(''), isAwaited: fc.boolean() }),
    fc.record({
      kind: fc.constant('parallel'),
      id: fc.constant(''),
      branches: fc.array(fc.array(tie('statement'), { minLength: 1, maxLength: 2 }), { minLength: 1, maxLength: 3 }),
    }),
    fc.record({ kind: fc.constant('try'), id: fc.constant(''), body: fc.array(tie('statement'), { maxLength: 2 }) }),
  ) as fc.Arbitrary<Statement>,
}))

const statements = fc.array(statement, { minLength: 1, maxLength: 5 })
const last = fc.record({
  statements,
  end: fc.constantFrom<'return' | 'throw'>('return', 'return', 'throw'),
  isFatal: fc.boolean(),
})

/** Programs of one to three generations; some fail at their end, some by a step. */
export const program: fc.Arbitrary<Program> = fc
  .tuple(fc.array(statements, { maxLength: 2 }), last)
  .map(([earlier, { statements: own, end, isFatal }]) => {
    const fatal: Statement[] =
      isFatal && end === 'throw' ? [{ kind: 'step', id: '', fails: 0, isFatal: true, undo: true }] : []
    let whole: Program = { statements: [...own, ...fatal], end }
    for (const one of earlier) whole = { statements: one, end: { next: whole } }
    return withIds(whole, 'g')
  })

/** Gives statements ids; those of children receive nothing from outside, because nobody out there knows them. */
function withIds(whole: Program, prefix: string, isChild = false): Program {
  let count = 0
  const fill = (list: Statement[], isInParallel: boolean): Statement[] =>
    list.map(one => {
      count += 1
      const id = `${prefix}${count}`
      switch (one.kind) {
        case 'receive':
        case 'event':
          return isChild ? { kind: 'sleep', id, ms: 1 } : { ...one, id }
        case 'invoke':
          // One that fails is caught, or is the end of everything: in a branch the others would be left where they are.
          return {
            ...one,
            id,
            program: withIds(isInParallel ? { ...one.program, end: 'return' } : one.program, `${id}c`, true),
          }
        case 'parallel':
          return { ...one, id, branches: one.branches.map(branch => fill(branch, true)) }
        case 'try':
          return { ...one, id, body: fill(one.body, isInParallel) }
        default:
          return { ...one, id }
      }
    })
  const statements = fill(whole.statements, false)
  const { end } = whole
  return { statements, end: typeof end === 'object' ? { next: withIds(end.next, `${prefix}n`, isChild) } : end }
}
