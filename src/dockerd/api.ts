import { request } from 'node:http'
import { forbidden, unavailable } from '../errors.js'

/** How long dockerd may take to answer. */
const patienceMs = 5_000

export interface DockerAnswer {
  status: number
  body: string
}

/**
 * One question to dockerd's API. Never to be asked inside of a plugin call: dockerd waits for that one, perhaps holding
 * the lock that the answer needs.
 * @param wanted ends the sentence for the user when nobody answers: `which might have a container of that name`
 * @throws {NetError} Unavailable: no dockerd answers there. Forbidden: not to us
 */
export function askDocker(
  socketPath: string,
  { method = 'GET', path, body }: { method?: 'GET' | 'POST'; path: string; body?: object },
  { wanted, timeoutMs = patienceMs }: { wanted: string; timeoutMs?: number },
): Promise<DockerAnswer> {
  const payload = body === undefined ? undefined : JSON.stringify(body)
  const headers = payload === undefined ? {} : { 'content-type': 'application/json' }
  return new Promise((resolve, reject) => {
    const failed = (error: NodeJS.ErrnoException): void =>
      reject(
        error.code === 'EACCES' || error.code === 'EPERM'
          ? forbidden(`no permission to use ${socketPath}: it takes root or a member of group docker`, { cause: error })
          : unavailable(`dockerd, ${wanted}, does not answer on ${socketPath}`, { cause: error }),
      )
    const outgoing = request({ socketPath, method, path, headers, agent: false }, response => {
      let text = ''
      response.setEncoding('utf8').on('data', (part: string) => {
        text += part
      })
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body: text }))
      response.on('error', failed)
    })
    outgoing.setTimeout(timeoutMs, () => outgoing.destroy(new Error(`no answer within ${timeoutMs} ms`)))
    outgoing.on('error', failed)
    outgoing.end(payload)
  })
}
