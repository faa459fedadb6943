import { defineConfig } from 'vitest/config'

// Nothing here measures time; a busy machine is no failure.
export default defineConfig({ test: { testTimeout: 60_000 } })
