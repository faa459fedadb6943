export interface Closing {
  /** Something was opened that has to be closed. */
  add(close: () => Promise<void>): void
  /** Closes everything, the last opened first, each whatever becomes of the others. Throws the first error. */
  closeAll(): Promise<void>
}

/** What a command has opened so far. */
export function createClosing(): Closing {
  const open: (() => Promise<void>)[] = []
  return {
    add: close => void open.push(close),
    async closeAll() {
      const errors: unknown[] = []
      for (const close of open.splice(0).reverse()) await close().catch(error => errors.push(error))
      if (errors.length > 0) throw errors[0]
    },
  }
}
