/*
 * What a load will need: cores, commits, WAL, disk, network, from what a run and a step were measured to cost. `--check`
 * puts that load on this machine and says how far off the calculation is.
 */
import { parseArgs } from 'node:util'
import { COEFFICIENTS } from './coefficients.ts'
import { measureCoefficients } from './measure-coefficients.ts'
import { startBench } from './observe.ts'
import { predict, type Shape } from './predict.ts'
import { printCheck, printNeeds } from './print-sizing.ts'

const CHECK_SECONDS = 8

const USAGE = `bench sizing --runs-per-second 100 --steps 5 --payload 1KiB [--retention-days 7] [--check]
  --payload   of the event and of each step's output, in B, KiB or MiB
  --check     put that load on this machine for ${CHECK_SECONDS} seconds and compare
bench sizing --measure
  measure the coefficients anew, about three minutes`

/** The command `bench sizing`. */
export async function runSizing(args: string[]): Promise<void> {
  const { values } = parseArgs({
    args,
    options: {
      'runs-per-second': { type: 'string', default: '100' },
      steps: { type: 'string', default: '5' },
      payload: { type: 'string', default: '1KiB' },
      'retention-days': { type: 'string', default: '7' },
      check: { type: 'boolean' },
      measure: { type: 'boolean' },
    },
  })
  if (values.measure === true) return measureCoefficients()
  const shape = {
    runsPerSecond: Number(values['runs-per-second']),
    steps: Number(values.steps),
    payloadBytes: readBytes(values.payload),
  }
  const retentionDays = Number(values['retention-days'])
  if (![...Object.values(shape), retentionDays].every(value => value >= 0))
    throw new Error(`Not understood. Use: ${USAGE}`)
  printNeeds({ shape, retentionDays, needs: predict(shape, COEFFICIENTS), machine: COEFFICIENTS.machine })
  if (values.check === true) await check(shape)
}

async function check(shape: Shape): Promise<void> {
  const bench = await startBench()
  try {
    const observed = await bench.observe(shape, CHECK_SECONDS)
    printCheck({ asked: shape, observed, predicted: predict(observed.shape, COEFFICIENTS) })
  } finally {
    await bench.stop()
  }
}

const UNITS: Record<string, number> = { B: 1, KiB: 1_024, MiB: 1_024 ** 2 }

/** NaN for what is no size. */
function readBytes(text: string): number {
  const [, digits, unit = 'B'] = /^(\d+(?:\.\d+)?)\s*(B|KiB|MiB)?$/.exec(text) ?? []
  return Number(digits) * (UNITS[unit] ?? Number.NaN)
}
