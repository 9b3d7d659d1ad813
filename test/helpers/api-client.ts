import { type IncomingHttpHeaders, request } from 'node:http'
import { expect } from 'vitest'

export interface Answer {
  status: number
  headers: IncomingHttpHeaders
  // biome-ignore lint/suspicious/noExplicitAny: whatever JSON the API says
  body: any
}

/** One request to the API; a string is sent as it is. */
export function callApi(socketPath: string, method: string, path: string, body?: unknown): Promise<Answer> {
  const text = typeof body === 'string' || body === undefined ? body : JSON.stringify(body)
  return new Promise((resolve, reject) => {
    const outgoing = request({ socketPath, method, path, agent: false }, response => {
      let got = ''
      response.setEncoding('utf8').on('data', (part: string) => {
        got += part
      })
      response.on('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          body: got === '' ? undefined : JSON.parse(got),
        }),
      )
    })
    outgoing.on('error', reject)
    outgoing.end(text)
  })
}

/** The body of a refusal. */
export const refusal = (kind: string, message: string | RegExp) => ({
  error: { kind, message: typeof message === 'string' ? message : expect.stringMatching(message) },
})
