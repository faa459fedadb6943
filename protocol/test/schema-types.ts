/** Fails to compile when a schema and the hand-written type of the same thing differ, in optional properties too. */
import type { z } from 'zod'
import type {
  AckBatch,
  Describe,
  Description,
  Entry,
  Json,
  NewEvent,
  Op,
  Report,
  ReportBatch,
  SyncRequest,
  Turn,
  WireError,
} from '../src/index.ts'
import type * as schemas from '../src/schemas.ts'

type Output<K extends keyof typeof schemas> = (typeof schemas)[K] extends z.ZodType<infer T> ? T : never

/** True or false: two conditional types are equal only when what they test is. */
type IsSame<A, B> = (<T>() => T extends Flat<A> ? 1 : 2) extends <T>() => T extends Flat<B> ? 1 : 2 ? true : false

/** Writes intersections out as one object, so that only the properties count. Stops at customers' JSON. */
type Flat<T> = Json extends T ? Json : T extends object ? { [K in keyof T]: Flat<T[K]> } : T

type Assert<T extends true> = T

export type SchemasAndTypesAgree = [
  Assert<IsSame<Output<'opSchema'>, Op>>,
  Assert<IsSame<Output<'entrySchema'>, Entry>>,
  Assert<IsSame<Output<'turnSchema'>, Turn>>,
  Assert<IsSame<Output<'reportSchema'>, Report>>,
  Assert<IsSame<Output<'reportBatchSchema'>, ReportBatch>>,
  Assert<IsSame<Output<'ackBatchSchema'>, AckBatch>>,
  Assert<IsSame<Output<'describeSchema'>, Describe>>,
  Assert<IsSame<Output<'descriptionSchema'>, Description>>,
  Assert<IsSame<Output<'syncRequestSchema'>, SyncRequest>>,
  Assert<IsSame<Output<'newEventSchema'>, NewEvent>>,
  Assert<IsSame<Output<'eventsBodySchema'>, { events: NewEvent[] }>>,
  Assert<IsSame<Output<'wireErrorSchema'>, WireError>>,
]
