/*
 * What a run costs, as `bench sizing --measure` found it: it puts real load of several shapes on a real system (engine,
 * app and Postgres as processes, fsync on), reads what each process, the WAL and the tables have used, and fits these
 * figures to that. Processes: user and system time from /proc. WAL: pg_current_wal_insert_lsn. Flushes: pg_stat_io.
 * Disk: pg_total_relation_size, indexes included. Network: bytes that the engine has read and written.
 *
 * To renew them: `npx pnpm bench sizing --measure`, and paste what it prints.
 */

/** What one of each costs: every resource is the sum of these. */
export interface Costs {
  run: number
  step: number
  /** A commit, with all that is done once per batch: requests, signatures, statements. */
  transaction: number
  eventByte: number
  outputByte: number
  /** What an idle system uses in a second. */
  second: number
}

export interface Coefficients {
  machine: string
  /** Of one engine: transactions when runs come alone, and how long a batch takes that what comes meanwhile shares. */
  transactions: { perRun: number; perStep: number; batchMs: number }
  engineCpuMs: Costs
  /** The SDK's part of the app: replay, reports, signatures. What your steps do comes on top. */
  appCpuMs: Costs
  postgresCpuMs: Costs
  walBytes: Costs
  walFlushes: Costs
  networkBytes: Costs
  /** By table, with its indexes. */
  diskBytes: Record<DiskTable, Costs>
}

export const DISK_TABLES = ['events', 'journal', 'runs_done', 'turns'] as const
export type DiskTable = (typeof DISK_TABLES)[number]

export const COEFFICIENTS: Coefficients = {
  machine: '2 x AMD EPYC, Node v20.20.2',
  transactions: { perRun: 1.77, perStep: 0.998, batchMs: 0.84 },
  engineCpuMs: { run: 0.474, step: 0, transaction: 0.404, eventByte: 0.0000363, outputByte: 0.00000423, second: 18.5 },
  appCpuMs: {
    run: 0.394,
    step: 0.0123,
    transaction: 0.218,
    eventByte: 0.0000203,
    outputByte: 0.00000297,
    second: 8.54,
  },
  postgresCpuMs: {
    run: 0.322,
    step: 0,
    transaction: 0.387,
    eventByte: 0.0000789,
    outputByte: 0.00000835,
    second: 3.14,
  },
  walBytes: { run: 2490, step: 449, transaction: 3.1, eventByte: 2.12, outputByte: 1.07, second: 94.9 },
  walFlushes: { run: 0, step: 0, transaction: 0.923, eventByte: 0, outputByte: 0, second: 18.8 },
  networkBytes: { run: 2520, step: 539, transaction: 433, eventByte: 3.02, outputByte: 2, second: 463 },
  diskBytes: {
    events: { run: 132, step: 0, transaction: 0, eventByte: 1.09, outputByte: 0, second: 0 },
    journal: { run: 57.9, step: 277, transaction: 0, eventByte: 1.16, outputByte: 1.03, second: 0 },
    runs_done: { run: 199, step: 0.151, transaction: 0, eventByte: 0.000287, outputByte: 0, second: 0 },
    turns: { run: 164, step: 0, transaction: 0, eventByte: 0.000568, outputByte: 0, second: 0 },
  },
}
