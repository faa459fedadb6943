/* What the engine promises about a program (DESIGN.md, what the engine promises), computed from the program alone. */
import type { Program, Statement } from './program.ts'

export interface Expected {
  state: 'completed' | 'failed'
  output: unknown
  message: string | null
  /** Steps of the last generation that are undone. */
  undone: string[]
  generation: number
  status: string | null
  /** Labels of all runs that it starts, itself included, and how each ends. */
  family: Map<string, 'completed' | 'failed'>
  /** Names of signals, and how many of each are received; names of events. */
  signals: Map<string, number>
  events: string[]
  /** What it publishes by itself, in whatever order. */
  published: string[]
}

class Failure extends Error {}

/** The n-th message under a name carries this. */
export function signalData(name: string, n: number): string {
  return `${name}/${n}`
}

/** How a run of this program ends. */
export function expectedOf(label: string, first: Program): Expected {
  const expected: Expected = {
    state: 'completed',
    output: null,
    message: null,
    undone: [],
    generation: 1,
    status: null,
    family: new Map(),
    signals: new Map(),
    events: [],
    published: [],
  }
  let program = first
  for (;;) {
    expected.undone = []
    try {
      const output = evaluate(program.statements, label, expected)
      if (program.end === 'throw') throw new Failure(`the end of ${label}`)
      if (program.end === 'return') {
        expected.output = output
        expected.undone = []
        break
      }
      program = program.end.next
      expected.generation += 1
    } catch (error) {
      if (!(error instanceof Failure)) throw error
      expected.state = 'failed'
      expected.message = error.message
      break
    }
  }
  expected.family.set(label, expected.state)
  return expected
}

function evaluate(statements: Statement[], label: string, expected: Expected): unknown[] {
  return statements.map(statement => evaluateOne(statement, label, expected))
}

function evaluateOne(statement: Statement, label: string, expected: Expected): unknown {
  const { id } = statement
  switch (statement.kind) {
    case 'step':
      if (statement.isFatal) throw new Failure(`fatal ${id}`)
      if (statement.undo) expected.undone.push(id)
      return `did ${id}`
    case 'sleep':
      return 'slept'
    case 'receive':
      expected.signals.set(id, statement.count)
      return Array.from({ length: statement.count }, (_, n) => signalData(id, n))
    case 'event':
      expected.events.push(id)
      return `event ${id}`
    case 'invoke': {
      const child = expectedOf(`${label}/${id}`, statement.program)
      for (const [name, state] of child.family) expected.family.set(name, state)
      if (statement.isDetached) return 'detached'
      if (child.state === 'failed') throw new Failure(child.message ?? '')
      return child.output
    }
    case 'map':
      return Array.from({ length: statement.items }, (_, n) => n * 2)
    case 'poll':
      return statement.tries
    case 'say':
      expected.status = id
      return 'said'
    case 'publish':
      expected.published.push(`${expected.generation} ${id}`)
      return 'published'
    case 'chance':
      return 'number,36,true'
    case 'parallel':
      return statement.branches.map(branch => evaluate(branch, label, expected))
    case 'try':
      try {
        return evaluate(statement.body, label, expected)
      } catch (error) {
        if (!(error instanceof Failure)) throw error
        return `caught ${error.message}`
      }
  }
}
