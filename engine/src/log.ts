import { type Logger, pino } from 'pino'

export type Log = Logger

/** One JSON line per thing that happened: fields first, ids always, never payloads, never keys. */
export function createLog(level: string): Log {
  return pino({ level, base: null, timestamp: pino.stdTimeFunctions.isoTime })
}
