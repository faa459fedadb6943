import type { Json } from '@stepwell/protocol'

/**
 * The type of a value after it went through JSON: what `step.run` gives back. A Date comes back as a string, functions
 * and symbol keys are gone, and the types say so.
 */
export type Jsonified<T> = 0 extends 1 & T // `any` stays `any`
  ? T
  : unknown extends T
    ? unknown
    : // What is JSON already stays as it is: this also ends the recursion of types that contain themselves.
      T extends Json | undefined
      ? T
      : // biome-ignore lint/suspicious/noConfusingVoidType: the body of a step may have no return value.
        void extends T
        ? undefined
        : T extends { toJSON(...args: never[]): infer Replaced }
          ? Jsonified<Replaced>
          : T extends readonly unknown[]
            ? { -readonly [Index in keyof T]: Jsonified<T[Index]> }
            : T extends object
              ? { -readonly [Name in keyof T as Kept<Name, T[Name]>]: Jsonified<T[Name]> }
              : never

/** Symbol keys do not survive. Functions do not either: they are refused at run time, with their path. */
type Kept<Name, Value> = Name extends symbol ? never : Value extends (...args: never[]) => unknown ? never : Name
