#!/usr/bin/env tsx
/*
 * The process: the only place that touches it. A first signal asks the command to stop in order, a second one
 * ends it at once. An embedded Postgres survives that; the next start finds it.
 */
import { runCli } from './cli/run-cli.ts'

const INTERRUPTED = 130
/** npm and tsx pass a Ctrl-C on that the terminal has sent to everybody already: that is one, not two. */
const SAME_SIGNAL_MS = 100

let askedAtMs: number | null = null
let ask: (signal: NodeJS.Signals) => void = () => {}
const stopAsked = new Promise<NodeJS.Signals>(resolve => {
  ask = resolve
})

function onSignal(signal: NodeJS.Signals): void {
  if (askedAtMs !== null && performance.now() - askedAtMs > SAME_SIGNAL_MS) process.exit(INTERRUPTED)
  askedAtMs ??= performance.now()
  ask(signal)
}

/** What nobody caught is a bug: nothing can be said about the state that it left. */
function onBug(error: unknown): void {
  process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`)
  process.exit(1)
}

process.on('SIGINT', onSignal)
process.on('SIGTERM', onSignal)
// The terminal was closed.
process.on('SIGHUP', onSignal)
// Whoever read our lines is gone. That is no reason to fail.
process.stdout.on('error', () => {})
process.stderr.on('error', () => {})
process.on('uncaughtException', onBug)
process.on('unhandledRejection', onBug)

const { argv, env, pid, stdout, stderr } = process
const exitCode = await runCli({ args: argv.slice(2), env, pid, stdout, stderr, stopAsked })
process.exit(exitCode)
