/*
 * The dev engine's Postgres, for as long as the engine runs. When the server ends underneath (it crashed, or somebody
 * killed it) it is started again on the same data; the engine's loops and requests find it away meanwhile.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../embedded/postgres.ts'
import type { Connection } from '../store/db.ts'

const RESTARTS_IN_A_ROW_MAX = 5
const RESTART_PAUSE_MS = 200
/** A server that ran for this long did not end because of how it was started. */
const STABLE_MS = 60_000

export interface KeptPostgres {
  connection: Connection
  dataDir: string
  how: EmbeddedPostgres['how']
  setNote(note: string): Promise<void>
  stop(): Promise<void>
  /** Rejects when it cannot be had any more. Never resolves. */
  lost: Promise<never>
}

/** Starts it. Throws `EmbeddedPostgresError` when that fails the first time. */
export async function keepPostgres(options: {
  dataDir: string
  fresh: boolean
  onDied: (message: string) => void
  onBack: () => void
}): Promise<KeptPostgres> {
  const { dataDir } = options
  let note = ''
  let isStopping = false
  let current = await startEmbeddedPostgres({ dataDir, fresh: options.fresh })
  const { connection, how } = current
  /** The restart under way. */
  let restarting: Promise<void> = Promise.resolve()
  let lose: (error: unknown) => void = () => {}
  const lost = new Promise<never>((_, reject) => {
    lose = reject
  })
  // Whoever waits for it hears of it; until somebody does, it is no unhandled rejection.
  lost.catch(() => {})

  function watch(server: EmbeddedPostgres, restarts: number): void {
    const startedAt = performance.now()
    void server.died.then(({ message }) => {
      if (isStopping) return
      options.onDied(message)
      const inARow = performance.now() - startedAt > STABLE_MS ? 1 : restarts + 1
      restarting = restart(server, inARow).catch(lose)
    })
  }

  async function restart(dead: EmbeddedPostgres, inARow: number): Promise<void> {
    // Gives the folder up: the next start takes it again.
    await dead.stop()
    for (let attempt = inARow; ; attempt += 1) {
      try {
        current = await startEmbeddedPostgres({ dataDir })
        break
      } catch (error) {
        if (attempt >= RESTARTS_IN_A_ROW_MAX) throw error
        await sleep(RESTART_PAUSE_MS * attempt)
      }
    }
    if (current.connection.host !== connection.host || current.connection.port !== connection.port)
      throw new Error('Postgres came back at another address, because its port was taken. Start Stepwell again.')
    if (note !== '') await current.setNote(note)
    watch(current, inARow)
    options.onBack()
  }

  watch(current, 0)
  return {
    connection,
    dataDir: current.dataDir,
    how,
    setNote(text) {
      note = text
      return current.setNote(text)
    },
    async stop() {
      isStopping = true
      await restarting
      await current.stop()
    },
    lost,
  }
}
