/** Any JSON value, as it travels. */
export type Json = string | number | boolean | null | Json[] | { [key: string]: Json }
