/*
 * Everything at once on shared runs, at random, from several connections: accept events, claim, report, settle, send, fire
 * timers, walk fan-outs, die and be reaped. Nobody may see an error, nobody may wait for somebody in a circle, and in the end the
 * invariants hold and every run can be brought to its end.
 */
import { expect, test } from 'vitest'
import type { Change } from '../../src/core/change.ts'
import type { WorkerId } from '../../src/core/ids.ts'
import { type Advance, advanceAndSend } from '../../src/store/advance.ts'
import { open, type Sql } from '../../src/store/db.ts'
import { eventColumns, type IngestEvent, walkFanouts } from '../../src/store/ingest.ts'
import { heartbeat, reap, release } from '../../src/store/queue.ts'
import { fireTimers } from '../../src/store/timers.ts'
import {
  anAdvance,
  anEvent,
  aRecord,
  aRetry,
  aSettle,
  aSleep,
  aWait,
  type Leased,
  lease,
  newUuid,
  passTime,
  send,
  useStore,
  VERSION,
  write,
} from './fixture.ts'

const store = useStore()
const STRESS_MS = 6_000
const ACTORS = 10
const RUNS_MAX = 60
/** How long some transactions stay open after their statement, at most: others meet their locks. */
const HOLD_MS = 3
const NAMES = 5
const VALUES = 6
/** So few that many events become fan-outs. */
const WAKES_MAX = 8
const SHAPES = [[], ['v']]

/** Values that waits were or are being opened for, and that no event has had so far. */
const expected: { name: string; value: string }[] = []
/** All of them. */
const opened: typeof expected = []

interface Holding {
  leased: Leased
  nextSeq: number
  /** Keys that will wake the run. */
  open: Set<string>
}

function numbersFrom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

/** One process: holds some runs, does one thing after another. */
class Actor {
  readonly sql: Sql
  readonly #random: () => number
  worker = newUuid() as WorkerId
  held: Holding[] = []

  constructor(seed: number) {
    this.sql = open(store.connection, 1)
    this.#random = numbersFrom(seed)
  }

  #upTo(max: number): number {
    return Math.floor(this.#random() * max)
  }

  async act(): Promise<void> {
    const actions = [
      this.#accept,
      this.#claim,
      this.#report,
      this.#report,
      this.#report,
      this.#send,
      this.#time,
      this.#die,
    ]
    const action = actions[this.#upTo(actions.length)] ?? this.#report
    await this.sql`begin`
    try {
      await action.call(this)
      if (this.#random() < 0.4) await this.sql`select pg_sleep(${this.#random() * HOLD_MS}::float8 / 1000)`
      await this.sql`commit`
    } catch (error) {
      await this.sql`rollback`
      throw error
    }
  }

  #event(): IngestEvent {
    const starts = this.#random() < 0.2 ? ['greet'] : []
    // half of them are about the one value that some wait is being opened for right now
    const unique = this.#random() < 0.5 ? expected.shift() : undefined
    const name = unique === undefined ? this.#name() : unique.name
    const id = unique === undefined && this.#random() < 0.3 ? { id: `own-${this.#upTo(500)}` } : {}
    return anEvent({ name, data: { v: unique?.value ?? this.#upTo(VALUES) }, shapes: SHAPES, starts, ...id })
  }

  #name(): string {
    return `thing-${this.#upTo(NAMES)}`
  }

  /** A wait for a value that exactly one event will have. */
  #rareWait(key: string): Change[] {
    const unique = { name: this.#name(), value: `unique-${key}` }
    expected.push(unique)
    opened.push(unique)
    return aWait(key, { event: unique.name, match: { v: unique.value } })
  }

  #events(): IngestEvent[] {
    const events = Array.from({ length: 1 + this.#upTo(6) }, () => this.#event())
    return [...new Map(events.map(event => [event.wireId, event])).values()]
  }

  async #accept(): Promise<void> {
    const [row] = await this.sql<{ runs: number }[]>`
      select count(*)::int as runs from stepwell.runs where ws = ${store.ws}`
    const events = this.#events()
    if ((row?.runs ?? 0) > RUNS_MAX) for (const event of events) event.runs = []
    const c = eventColumns(events)
    await this.sql`
      select stale from stepwell.ingest(
        ${store.ws}, ${VERSION}, ${c.id}, ${c.wireId}, ${c.own}, ${c.name}, ${c.ts}, ${c.data}, ${c.keyEvent}, ${c.keyHash},
        ${c.runId}, ${c.runEvent}, ${c.runFunction}, ${c.runVersion}, ${WAKES_MAX}, null, null, 0, null)`
  }

  async #claim(): Promise<void> {
    await heartbeat(this.sql, this.worker, 'stress')
    const leased = await lease(store, 1 + this.#upTo(12), { sql: this.sql, worker: this.worker })
    this.held.push(...leased.map(hold))
  }

  /** Some of the held runs report, and some of those end their turns. */
  async #report(): Promise<void> {
    await this.#write(this.#take(), [])
  }

  async #send(): Promise<void> {
    await this.#write(this.#take(), this.#events())
  }

  #take(): Holding[] {
    return this.held.filter(() => this.#random() < 0.6)
  }

  async #write(holdings: Holding[], events: IngestEvent[]): Promise<void> {
    if (holdings.length === 0) return
    const items = holdings.map(holding => this.#decide(holding))
    const senders = events.map((_, event) => ({ item: this.#upTo(items.length), event }))
    const results =
      events.length === 0
        ? await write(store, items, this.sql)
        : await advanceAndSend(this.sql, store.ws, items, { version: VERSION, events, senders })
    for (const [n, holding] of holdings.entries()) {
      const result = results?.[n]
      const step = items[n]?.changes.at(-1)
      if (result === undefined || result.status === 'stale' || step?.kind !== 'settle' || step.step !== 'running') {
        this.held = this.held.filter(one => one !== holding)
        continue
      }
      for (const { key } of result.delivered) holding.open.delete(key ?? '')
      holding.nextSeq +=
        result.delivered.length + (items[n]?.changes.filter(change => change.kind === 'record').length ?? 0)
    }
  }

  #decide(holding: Holding): Advance {
    const dueAtMs = Date.now() + this.#upTo(300)
    const key = newUuid()
    const kinds: (() => Change[])[] = [
      () => [],
      () => [aRecord({ key })],
      () => aSleep(key, dueAtMs),
      () => aRetry(key, dueAtMs),
      () => this.#rareWait(key),
      () => this.#rareWait(key),
      () => aWait(key, { event: this.#name(), match: { v: this.#upTo(VALUES) } }),
      () => [
        ...aWait(key, { event: 'thing-0' }),
        ...aWait(`${key}#2`, { event: this.#name(), dueAtMs }),
        ...aWait(`${key}#3`, { event: 'thing-0', match: { v: 1 } }),
      ],
    ]
    const changes = kinds[this.#upTo(kinds.length)]?.() ?? []
    for (const change of changes) if (change.kind === 'open_wait') holding.open.add(change.key)
    const steps = ['running', 'running', 'waiting', 'waiting', 'waiting', 'continue', 'trouble', 'done'] as const
    let step = steps[this.#upTo(steps.length)] ?? 'running'
    if (step === 'waiting' && holding.open.size === 0) step = 'continue'
    const settle = step === 'trouble' ? { ...aSettle(step), resendMs: this.#upTo(200) } : aSettle(step)
    return anAdvance(holding.leased, changes, settle as ReturnType<typeof aSettle>, { nextSeq: holding.nextSeq })
  }

  async #time(): Promise<void> {
    await fireTimers(this.sql, store.ws, 1 + this.#upTo(20))
    await walkFanouts(this.sql, store.ws, 1 + this.#upTo(10))
    await reap(this.sql, store.ws, 60_000)
  }

  /** Forgets what it holds and comes back as another; or hands back what it holds and goes on. */
  async #die(): Promise<void> {
    const how = this.#random()
    if (how < 0.7) return
    if (how < 0.85) await release(this.sql, this.worker)
    else await this.sql`delete from stepwell.workers where id = ${this.worker}`
    this.worker = newUuid() as WorkerId
    // reports of the one that died arrive late: they keep their tokens
    if (how < 0.95) this.held = []
  }
}

function hold(leased: Leased): Holding {
  const keys = new Set<string>()
  for (const { type, key } of leased.journal) {
    if (key === null) continue
    if (type === 'sleep_started' || type === 'wait_opened' || type === 'step_retrying') keys.add(key)
    else keys.delete(key)
  }
  return { leased, nextSeq: (leased.journal.at(-1)?.seq ?? 0) + 1, open: keys }
}

test('everything at once breaks nothing', async () => {
  const seed = Date.now() & 0xffff
  const actors = Array.from({ length: ACTORS }, (_, n) => new Actor(seed + n))
  const errors: unknown[] = []
  const until = performance.now() + STRESS_MS

  await Promise.all(
    actors.map(async actor => {
      while (performance.now() < until) await actor.act().catch(error => errors.push(error))
    }),
  )

  for (const actor of actors) await release(actor.sql, actor.worker)
  await Promise.all(actors.map(actor => actor.sql.end()))
  expect(errors.slice(0, 3), `seed ${seed}`).toEqual([])
  while ((await walkFanouts(store.sql, store.ws, 100)).more);
  const broken = await store.sql`select * from stepwell.check_invariants() where ws = ${store.ws} limit 20`
  expect([...broken], `seed ${seed}`).toEqual([])
  expect(await endAll(), `seed ${seed}`).toBe(0)
}, 60_000)

/** Brings every run to its end; returns how many are left. */
async function endAll(): Promise<number> {
  for (let round = 0; round < 1_000; round += 1) {
    await reap(store.sql, store.ws, 0)
    const leased = await lease(store)
    await write(
      store,
      leased.map(run => anAdvance(run, [], 'done')),
    )
    const [row] = await store.sql<
      { runs: number }[]
    >`select count(*)::int as runs from stepwell.runs where ws = ${store.ws}`
    if (row?.runs === 0) return 0
    if (leased.length > 0) continue
    // what is left waits: for a time, or for an event, which another wait of its run may have had
    await passTime(store, 60_000)
    await fireTimers(store.sql, store.ws, 1_000)
    const common = Array.from({ length: NAMES * VALUES }, (_, n) => ({ name: `thing-${n % NAMES}`, value: n % VALUES }))
    await send(
      store,
      [...opened, ...common].map(({ name, value }) => anEvent({ name, data: { v: value }, shapes: SHAPES })),
    )
    while ((await walkFanouts(store.sql, store.ws, 100)).more);
  }
  const [row] = await store.sql<
    { runs: number }[]
  >`select count(*)::int as runs from stepwell.runs where ws = ${store.ws}`
  return row?.runs ?? -1
}
