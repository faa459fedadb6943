import { type Logger, pino } from 'pino'

export type Log = Logger

/** One JSON line per thing that happened: fields first, ids always, never payloads, never keys. `fd` 1 is stdout. */
export function createLog(level: string, fd: 1 | 2 = 1): Log {
  return pino({ level, base: null, timestamp: pino.stdTimeFunctions.isoTime }, pino.destination(fd))
}
