import type { Result } from '../src/side-by-side/result.ts'
import type { Row } from '../src/side-by-side/rows.ts'

/** A row with a value for each system and round. */
export function aRow(given: Partial<Row> & { values: Row['values'] }): Row {
  return { id: 'W1.p50Ms', group: 'W1  one run of 1 step', label: 'p50 ms', better: 'less', ...given }
}

export function aResult(given: Partial<Result> = {}): Result {
  const names = ['Stepwell', 'Peer & <Co>', 'Slow']
  return {
    at: '2026-01-02T03:04:05.678Z',
    mode: 'full',
    rounds: 2,
    machine: {
      cores: 2,
      cpu: 'A "processor"',
      memoryBytes: 2 ** 33,
      system: 'linux 6',
      node: 'v20',
      postgres: '18',
      fsync: 'on everywhere',
    },
    systems: names.map(name => ({ name, facts: { versions: { [name]: '1' }, guarantee: 'a < b', settings: [] } })),
    missing: [],
    rows: [aRow({ values: { Stepwell: [1, 2], 'Peer & <Co>': [4, 4], Slow: [] } })],
    bytesToApp: null,
    goals: [],
    measurements: [],
    ...given,
  }
}
