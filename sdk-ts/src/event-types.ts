/** The types of events: from a map of names to data, or from a Standard Schema. */
import type { NewEvent } from '@stepwell/protocol'
import type { Jsonified } from './jsonified.ts'
import type { SchemaOutput, StandardSchema } from './standard-schema.ts'

/**
 * Names of events and the types of their data: a type or an interface. (`Record<string, unknown>` would refuse
 * interfaces, which have no index signature.)
 * @example
 * interface Events { 'user.created': { id: number }; 'approval.received': { userId: number } }
 */
export type EventMap = object

/**
 * The map of somebody who declares no types: any name, any data. `any` on purpose, in this one place: data of an
 * undeclared event may be read without a cast (`event.data.id`), as the JSON that it is.
 */
// biome-ignore lint/suspicious/noExplicitAny: see above; `unknown` would make every untyped handler cast.
export type UntypedEvents = Record<string, any>

/** Names of a map. */
export type EventName<Events extends EventMap> = keyof Events & string

/** An event as handlers see it; a union that `name` tells apart when there are several names. */
export type TypedEvent<Events extends EventMap, Name extends EventName<Events> = EventName<Events>> = {
  [N in Name]: {
    /** The sender's id, or `evt_` and 26 characters when it gave none. */
    readonly id: string
    readonly name: N
    /** As JSON brought it: a Date in the map is a string here. */
    readonly data: Jsonified<Events[N]>
    /** ISO 8601 with milliseconds, UTC. */
    readonly ts: string
  }
}[Name]

/** An event to send. `data` may be left out where its type allows undefined. */
export type TypedNewEvent<Events extends EventMap, Name extends EventName<Events> = EventName<Events>> = {
  [N in Name]: Omit<NewEvent, 'name' | 'data'> & { name: N } & DataOf<Events[N]>
}[Name]

/** The event with the data as a schema gives it back: any value, also one that JSON has no form for. */
export type SchemaEvent<Schema extends StandardSchema, Name extends string> = Omit<
  TypedEvent<Record<Name, unknown>, Name>,
  'data'
> & { readonly data: SchemaOutput<Schema> }

/** The event of a function that only other functions start: what they pass is its data. */
export type InvokedEvent<Data> = Omit<TypedEvent<Record<string, unknown>, string>, 'data'> & { readonly data: Data }

type DataOf<Data> = undefined extends Data ? { data?: Data } : { data: Data }
