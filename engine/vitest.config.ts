import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts', 'src/**/*.test.ts'],
    // One embedded Postgres for the whole run; each file that needs a database clones its own.
    globalSetup: ['test/global-setup.ts'],
    // A process per file: leaked timers and connections of one cannot reach another.
    pool: 'forks',
    // Postgres wants a core too.
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    teardownTimeout: 60_000,
  },
})
