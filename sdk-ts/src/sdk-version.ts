/** What this SDK calls itself on the wire: language and version. */
export const SDK = 'typescript/0.0.0'
