/** Why an embedded Postgres could not be had. Codes are API: they are listed in the docs and never renamed. */
export type EmbeddedPostgresErrorCode =
  /** Another Stepwell process owns the folder. */
  | 'folder_in_use'
  /** TCP only: every port tried was taken by somebody else between looking and listening. */
  | 'port_in_use'
  /** The folder holds something that Stepwell did not make; it is left alone. */
  | 'not_a_data_folder'
  /** The data was made by another major version of Postgres. */
  | 'wrong_version'
  /** No Postgres binaries for this system are installed, or the system cannot run them. */
  | 'no_binary'
  /** We are root, and there is no way to run Postgres as somebody else here. */
  | 'cannot_run_as_root'
  /** The folder belongs to somebody else, or cannot be written. */
  | 'no_permission'
  /** A setting that would weaken durability, or one that this folder decides itself. */
  | 'setting_refused'
  /** initdb or postgres ended, or did not become ready in time; the message carries the end of its log. */
  | 'start_failed'
  /** The postmaster did not end, not even when killed. */
  | 'stop_failed'

/** The one error of this folder. The message is a sentence for the person at the terminal: what, which, what now. */
export class EmbeddedPostgresError extends Error {
  override readonly name = 'EmbeddedPostgresError'
  readonly code: EmbeddedPostgresErrorCode

  constructor(code: EmbeddedPostgresErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

/** The `code` of an error of Node's or of Postgres's (`ENOENT`, `3D000`), for `switch` and comparison. */
export function errorCode(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || !('code' in error)) return undefined
  return typeof error.code === 'string' ? error.code : undefined
}
