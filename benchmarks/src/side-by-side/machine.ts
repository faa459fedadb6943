import { readFileSync } from 'node:fs'
import { cpus, platform, release, totalmem } from 'node:os'

export interface Machine {
  cores: number
  cpu: string
  memoryBytes: number
  system: string
  node: string
  postgres: string
  fsync: string
}

export function describeMachine(postgres: string): Machine {
  return {
    cores: cpus().length,
    cpu: cpuModel(),
    memoryBytes: totalmem(),
    system: `${platform()} ${release()}`,
    node: process.version,
    postgres,
    fsync: 'on everywhere',
  }
}

function cpuModel(): string {
  const model = cpus()[0]?.model.trim() ?? ''
  if (model !== '' && model !== 'unknown') return model
  try {
    return /^model name\s*:\s*(.+)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? 'unknown processor'
  } catch {
    return 'unknown processor'
  }
}
