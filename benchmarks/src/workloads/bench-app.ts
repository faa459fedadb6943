/** Makes a process an app under measurement: answers its parent's questions about one system. */
import { answerParent } from '../processes/answer.ts'
import type { StartBenchSystem, SystemFacts } from './bench-system.ts'
import { countReceivedBytes } from './received-bytes.ts'
import { Notes } from './workflows.ts'
import { type Times, type Workload, Workloads } from './workloads.ts'

export type Question =
  | { do: 'prepare' }
  | { do: 'facts' }
  | { do: 'measure'; workload: Workload }
  /** Everything that has reached this process over the network so far, in bytes. */
  | { do: 'received_bytes' }

export function serveBenchApp(start: StartBenchSystem): void {
  const notes = new Notes()
  const receivedBytes = countReceivedBytes()
  let prepared: { facts: SystemFacts; workloads: Workloads } | undefined
  answerParent(async (question: Question): Promise<SystemFacts | Times | number | null> => {
    if (question.do === 'prepare') {
      const system = await start(notes)
      prepared = { facts: system.facts, workloads: new Workloads(system, notes) }
      return null
    }
    if (question.do === 'received_bytes') return receivedBytes()
    if (prepared === undefined) throw new Error('Ask it to prepare first.')
    return question.do === 'facts' ? prepared.facts : prepared.workloads.measure(question.workload)
  })
}
