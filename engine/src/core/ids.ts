/** Ids are branded so that one kind cannot be passed for another. Inside the engine they are uuids; `run_…` is for the outside. */
declare const brand: unique symbol
type Branded<T, Name extends string> = T & { readonly [brand]: Name }

/** A workspace's number: the first column of every primary key. */
export type WorkspaceId = Branded<number, 'workspace'>
export type RunId = Branded<string, 'run'>
export type EventId = Branded<string, 'event'>
/** One running engine. */
export type WorkerId = Branded<string, 'worker'>
/** The fencing number of one claim: a random 63-bit integer as decimal text. `epoch` on the wire. */
export type Token = Branded<string, 'token'>
