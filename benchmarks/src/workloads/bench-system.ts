/*
 * A durable execution system as the workloads see it: the app's side, in the process that holds the functions and the
 * client. What a system is and promises is said beside its code, so that a figure never stands without it.
 */
import type { Notes, WorkflowInput, WorkflowName } from './workflows.ts'

export interface BenchSystem {
  facts: SystemFacts
  /** Starts one run and gives its result, as the system's client does it. */
  run(workflow: WorkflowName, input: WorkflowInput): Promise<unknown>
  /**
   * Starts these runs at once and resolves when all are recorded as completed, in the cheapest way that the system has:
   * where it can tell without a request for each, no results are fetched.
   */
  runMany(workflow: WorkflowName, inputs: readonly WorkflowInput[]): Promise<void>
  /**
   * When the sleeps of the last `runMany` were due, as the system has recorded it: by the number of the run, in
   * milliseconds of the epoch. Left out where the SDK fixes it at the moment of asking.
   */
  readDueTimes?(): Promise<Map<number, number>>
}

export interface SystemFacts {
  /** Packages and their versions. */
  versions: Record<string, string>
  /** What holds when it answers, in one honest sentence. */
  guarantee: string
  /** Everything that is not the default, and why. */
  settings: string[]
  /** The steps that one run may have, where there is a limit that a workload meets. */
  stepsMax?: number
  /** A server that the app's file has started. */
  serverPid?: number
}

/** Starts the system in this process, given what its functions run and what they note. */
export type StartBenchSystem = (notes: Notes) => Promise<BenchSystem>
