import { PassThrough } from 'node:stream'
import { describe, expect, test } from 'vitest'
import { COMMANDS } from '../../src/cli/commands.ts'
import { runCli } from '../../src/cli/run-cli.ts'
import { VARIABLES } from '../../src/config.ts'
import { runStepwell } from './stepwell.ts'

/** The command in this process: nothing here gets as far as opening anything. */
async function run(args: string[], env: Record<string, string> = {}): Promise<{ code: number; output: string }> {
  const stream = new PassThrough()
  const stopAsked = new Promise<never>(() => {})
  const code = await runCli({ args, env, pid: 1, stdout: stream, stderr: stream, stopAsked })
  return { code, output: String(stream.read() ?? '') }
}

describe('the help', () => {
  test.each([[[]], [['--help']], [['help']], [['-h']]])(
    'of %j has every command, variable and an example',
    async args => {
      const { code, output } = await run(args)

      expect(code).toBe(0)
      for (const name of Object.keys(COMMANDS)) expect(output).toContain(`stepwell ${name}`)
      for (const { name } of Object.values(VARIABLES)) expect(output).toContain(name)
      expect(output).toContain('Examples')
    },
  )

  test.each(Object.entries(COMMANDS))('of %s has its flags and examples', async (name, command) => {
    const { code, output } = await run([name, '--help'])

    expect(code).toBe(0)
    expect(output).toContain(command.description)
    for (const flag of Object.keys(command.flags)) expect(output).toContain(`--${flag}`)
    for (const example of command.examples) expect(output).toContain(example)
    expect(output).not.toContain('\u001b')
  })
})

test('the help of start has what the app needs, to be copied', async () => {
  const { output } = await run(['start', '--help'])

  expect(output).toContain('echo whsec_$(openssl rand -base64 32)')
  expect(output).toMatch(
    /^STEPWELL_URL=.*\nSTEPWELL_SIGNING_KEY=.*\nSTEPWELL_WORKSPACE=default\/prod\nSTEPWELL_APP_URL=.*\n/m,
  )
})

describe('a usage error', () => {
  test.each([
    [['dve'], 'There is no command "dve". Did you mean "dev"?'],
    [['strat'], 'Did you mean "start"?'],
    [['__proto__'], 'There is no command "__proto__".'],
    [['dev', '--prot', '1'], 'There is no flag --prot. Did you mean "--port"?'],
    [['dev', '--no-fresh-air'], 'There is no flag --fresh-air'],
    [['dev', 'now'], 'takes no words'],
    [['dev', '--port'], '--port needs a value'],
    [['dev', '--port', 'x'], '--port: must be a whole number from 0 to 65535'],
    [['dev', '-u', 'localhost:3000'], '--url must be a URL that starts with http://'],
    [['migrate', '--fresh'], 'There is no flag --fresh'],
  ])('%j ends with code 2 and says: %s', async (args, said) => {
    const { code, output } = await run(args, { STEPWELL_HOME: '/nowhere' })

    expect(code).toBe(2)
    expect(output).toContain(said)
  })

  test('dev does not listen for others', async () => {
    const { code, output } = await run(['dev'], { STEPWELL_HOST: '0.0.0.0', STEPWELL_HOME: '/nowhere' })

    expect(code).toBe(2)
    expect(output).toContain('loopback only')
  })
})

test('the exit code is that of the process', async () => {
  const { code, output } = await runStepwell(['dve'])

  expect(code).toBe(2)
  expect(output).toContain('Did you mean "dev"?')
})

test('the version is that of the package', async () => {
  const { code, output } = await run(['--version'])

  expect(code).toBe(0)
  expect(output).toMatch(/^\d+\.\d+\.\d+\n$/)
})
