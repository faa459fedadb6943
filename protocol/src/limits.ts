const KiB = 1024
const MiB = 1024 * KiB

/** Limits are named errors, never retried. Sizes are bytes of UTF-8 JSON text. */
export const LIMITS = {
  /** A report batch, a turn's response, or any REST body. A turn's own body may be as large as its journal. */
  bodyBytes: 4 * MiB,
  /** One step's output: a mebibyte of content and room for its quotes and escapes. */
  stepOutputBytes: 1 * MiB + 4 * KiB,
  /** All entries of one generation. */
  journalBytes: 32 * MiB,
  /** Messages to one run that nobody has received. */
  signalsPerRun: 10_000,
  /** The data of one message that a run publishes. */
  publishBytes: 64 * KiB,
  channelChars: 128,
  channelsPerStream: 32,
  /** How long a token to follow a run is good for. */
  streamTokenMinMs: 1_000,
  streamTokenMaxMs: 24 * 3_600_000,
  streamTokenDefaultMs: 15 * 60_000,
  /** The custom status of a run. */
  statusBytes: 16 * KiB,
  tagsPerRun: 20,
  tagNameChars: 64,
  tagValueChars: 256,
  cancelMessageChars: 1_024,
  /** Served side by side. */
  versionsPerFunction: 100,
  /** Rules of one function in `cancelOn`. */
  cancelRules: 10,
  /** Keys in one generation. */
  stepsPerRun: 10_000,
  eventBytes: 1 * MiB,
  eventsPerCall: 1_000,
  eventNameChars: 256,
  eventIdChars: 256,
  functionIdChars: 128,
  workspaceChars: 256,
  /** Ids of runs, epochs, names of SDKs. */
  runIdChars: 128,
  epochChars: 128,
  sdkChars: 128,
  urlChars: 2_048,
  stepIdChars: 256,
  matchPaths: 8,
  matchPathChars: 256,
  matchValueChars: 1_024,
  reportsPerBatch: 1_000,
  opsPerReport: 10_000,
  /** Arrays and objects within each other. JSON.parse takes any depth, JSON.stringify overflows the stack at some thousands. */
  jsonDepth: 1_000,
  errorCauseDepth: 8,
  errorNameChars: 256,
  errorCodeChars: 256,
  errorMessageChars: 16 * KiB,
  errorStackChars: 16 * KiB,
  /** Sleeps and time-outs: 366 days. */
  durationMs: 366 * 24 * 3_600_000,
  maxAttempts: 100,
  /** By how much each delay between attempts may be longer than the one before. */
  retryFactor: 10,
  /** How far a timestamp may be off, in either direction. */
  toleranceSeconds: 300,
  /** How long an event's own id is remembered. */
  eventIdMemoryMs: 24 * 3_600_000,
} as const
