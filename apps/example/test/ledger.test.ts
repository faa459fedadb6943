import { appendFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openLedger } from '../src/outside/ledger.ts'

const effect = { service: 'payments', action: 'charge', key: 'run:1:charge', what: '1.00 EUR' }
let folder: string

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ledger-test-'))
})

afterEach(() => rmSync(folder, { recursive: true }))

const open = () => openLedger({ path: join(folder, 'ledger.jsonl'), now: () => new Date(0), pid: 1 })

test('the same key happens once, and the first result is given again', () => {
  const ledger = open()

  const results = [1, 2].map(result => ledger.once(effect, () => result))

  expect(results).toEqual([1, 1])
  expect(ledger.lines().map(line => line.kind)).toEqual(['effect', 'repeat'])
})

test('another process finds what happened before', () => {
  open().once(effect, () => 1)

  expect(open().once(effect, () => 2)).toBe(1)
})

test('keys of different services and actions have nothing to do with each other', () => {
  const ledger = open()

  expect(ledger.once(effect, () => 1)).toBe(1)
  expect(ledger.once({ ...effect, action: 'refund' }, () => 2)).toBe(2)
  expect(ledger.once({ ...effect, service: 'mail' }, () => 3)).toBe(3)
})

test('what was refused has not happened', () => {
  const ledger = open()
  const refuse = () => {
    throw new Error('no')
  }

  expect(() => ledger.once(effect, refuse)).toThrow('no')
  expect(ledger.once(effect, () => 1)).toBe(1)
})

test('half a line at the end, as a kill can leave it, spoils nothing', () => {
  open().once(effect, () => 1)
  appendFileSync(join(folder, 'ledger.jsonl'), '{"kind":"eff')

  const ledger = open()
  ledger.once({ ...effect, key: 'another' }, () => 2)

  expect(open().lines()).toHaveLength(2)
  expect(readFileSync(join(folder, 'ledger.jsonl'), 'utf8').split('\n')).toHaveLength(4)
})
