import { defineConfig } from 'vitest/config'

/** The architecture test alone: no database, some seconds. Part of `pnpm check`. */
export default defineConfig({ test: { include: ['test/architecture.test.ts'] } })
