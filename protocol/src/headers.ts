/** Header names of the protocol, in lower case. The first three are those of Standard Webhooks. */
export const HEADERS = {
  id: 'webhook-id',
  timestamp: 'webhook-timestamp',
  signature: 'webhook-signature',
  version: 'stepwell-version',
  workspace: 'stepwell-workspace',
  sdk: 'stepwell-sdk',
  /** In an app's answers, `turns`: several turns in one request are welcome. */
  accepts: 'stepwell-accepts',
} as const

/** Versions of the wire protocol that this package speaks. An unknown one is refused with 415 and this list. */
export const PROTOCOL_VERSIONS: readonly string[] = ['1']

export const PROTOCOL_VERSION = '1'
