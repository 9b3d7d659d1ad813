/**
 * The one table of what can go wrong for a user: HTTP status at the REST door, exit code at the CLI.
 * (Docker's plugin protocol cannot carry a kind: it gets the message only, see plugin-api/server.ts.)
 */
const kinds = {
  Internal: { http: 500, exit: 1 },
  InvalidParameter: { http: 400, exit: 2 },
  Forbidden: { http: 403, exit: 3 },
  NotFound: { http: 404, exit: 4 },
  Conflict: { http: 409, exit: 5 },
  NotImplemented: { http: 501, exit: 6 },
  Unavailable: { http: 503, exit: 7 },
} as const satisfies Record<string, { http: number; exit: number }>

export type ErrorKind = keyof typeof kinds

/** An error whose message is one sentence for the user: the value, and the rule that it breaks. */
export class NetError extends Error {
  override readonly name: string = 'NetError'
  constructor(
    readonly kind: ErrorKind,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options)
  }
}

export const isErrorKind = (word: unknown): word is ErrorKind => typeof word === 'string' && Object.hasOwn(kinds, word)

/** The kind of the nearest NetError in the chain of causes; anything else is our own fault, so Internal. */
export function kindOf(error: unknown): ErrorKind {
  for (let e = error; e instanceof Error; e = e.cause) if (e instanceof NetError) return e.kind
  return 'Internal'
}

export const httpStatusOf = (error: unknown): number => kinds[kindOf(error)].http
export const exitCodeOf = (error: unknown): number => kinds[kindOf(error)].exit

/** The message of anything thrown, on one line. */
export const messageOf = (error: unknown): string =>
  (error instanceof Error ? error.message : String(error)).replace(/\s*\n\s*/g, '; ')

export const invalid = (message: string, options?: ErrorOptions): NetError =>
  new NetError('InvalidParameter', message, options)
export const notFound = (message: string, options?: ErrorOptions): NetError =>
  new NetError('NotFound', message, options)
export const conflict = (message: string, options?: ErrorOptions): NetError =>
  new NetError('Conflict', message, options)
export const forbidden = (message: string, options?: ErrorOptions): NetError =>
  new NetError('Forbidden', message, options)
export const unavailable = (message: string, options?: ErrorOptions): NetError =>
  new NetError('Unavailable', message, options)
export const notImplemented = (message: string, options?: ErrorOptions): NetError =>
  new NetError('NotImplemented', message, options)

/** `create network web: <message>`, keeping the kind: what was being done, outside in. */
export const within = (doing: string, error: unknown): NetError =>
  new NetError(kindOf(error), `${doing}: ${messageOf(error)}`, { cause: error })

/** Run `work`; whatever it throws says what was being done. */
export async function doing<T>(what: string, work: () => T | Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw within(what, error)
  }
}
