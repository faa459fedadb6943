/** Where things are in a checkout, whatever the working directory is. */
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const ROOT = fileURLToPath(new URL('../../../../', import.meta.url))
export const ENGINE_MAIN = join(ROOT, 'engine/src/main.ts')
export const APP_MAIN = fileURLToPath(new URL('../main.ts', import.meta.url))
/** All that the demo writes is in here. Git ignores it. */
export const DEMO_FOLDER = join(ROOT, '.demo')
/** The ledger of `pnpm dev` stays, so that the app remembers. Git ignores it. */
export const DEV_FOLDER = fileURLToPath(new URL('../../.data/', import.meta.url))
