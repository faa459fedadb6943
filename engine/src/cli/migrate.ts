import { migrate } from '../store/migrate.ts'
import { connectionOf } from './database-url.ts'
import { createTerminal } from './terminal.ts'
import { EXIT, type World } from './world.ts'

/** Brings the database to this version's schema, and says what that took. */
export async function runMigrate(world: World, options: { databaseUrl: string }): Promise<number> {
  const { say } = createTerminal(world)
  const applied = await migrate(connectionOf(options.databaseUrl))
  for (const name of applied) say(`applied ${name}`)
  say(applied.length === 0 ? 'The database is up to date.' : `The database is up to date, ${applied.length} applied.`)
  return EXIT.ok
}
