/** Bytes of a JSON text in UTF-8, which is what limits count; 0 for none. */
export function byteLength(text: string | null): number {
  return text === null ? 0 : Buffer.byteLength(text)
}
