import type { DurableFunction, HandlerContext, Step, StepContext } from '@stepwell/sdk'
import type { Ledger } from './outside/ledger.ts'

/**
 * The same function, with a line in the ledger each time one of its step bodies starts. The engine records results; only
 * the app can say how often a body was executed. No function needs this: it is here so that nobody has to take our word.
 */
export function witnessSteps(definition: DurableFunction, ledger: Ledger): DurableFunction {
  return {
    ...definition,
    handler: context => {
      const { step, run } = context as HandlerContext<unknown>
      const note = ({ attempt, idempotencyKey }: StepContext) => {
        const key = idempotencyKey.slice(`${run.id}:${run.generation}:`.length)
        ledger.append({ kind: 'execution', function: definition.id, run: run.id, step: key, attempt })
      }
      const witnessed: Step = {
        ...step,
        run: (id, body, { undo, ...options } = {}) =>
          step.run(
            id,
            stepContext => {
              note(stepContext)
              return body(stepContext)
            },
            undo === undefined
              ? options
              : {
                  ...options,
                  undo: (output, stepContext) => {
                    note(stepContext)
                    return undo(output, stepContext)
                  },
                },
          ),
      }
      // The handler's own types are behind `never`; what it is given is its own context with one member wrapped.
      return definition.handler({ ...(context as object), step: witnessed } as never)
    },
  }
}
