import { request } from 'node:http'
import type { Container, Containers } from '../cnm/driver.js'
import { conflict, notFound, unavailable } from '../errors.js'

/** How long dockerd may take to say what a container is. */
const patienceMs = 5_000

/** Docker's containers as its API tells of them (moby api/swagger.yaml, ContainerInspect; the oldest version that every dockerd since 20.10 speaks). */
interface Inspect {
  Id: string
  Name: string
  State: { Running: boolean; Pid: number }
  NetworkSettings: { SandboxKey?: string }
  HostsPath?: string
  ResolvConfPath?: string
}

/** Never to be asked inside of a plugin call: dockerd waits for that one, perhaps holding the container's lock. */
export class DockerContainers implements Containers {
  constructor(readonly socketPath: string) {}

  async find(ref: string): Promise<Container> {
    const { status, body } = await this.#get(`/containers/${encodeURIComponent(ref)}/json`)
    if (status === 404) throw notFound(`Docker has no container ${ref}`)
    if (status !== 200) throw unavailable(`dockerd on ${this.socketPath} says ${status} about container ${ref}`)
    const { Id, Name, State, HostsPath, ResolvConfPath } = JSON.parse(body) as Inspect
    const name = Name.replace(/^\//, '')
    if (!State.Running || State.Pid === 0)
      throw conflict(`container ${name} does not run, so it has no namespace to share`)
    return {
      id: Id,
      name,
      // not the SandboxKey: that path is where dockerd's own mounts are, the process is wherever we are
      netns: `/proc/${State.Pid}/ns/net`,
      files: Object.fromEntries(
        [
          ['hosts', HostsPath],
          ['resolv.conf', ResolvConfPath],
        ].filter(([, path]) => path),
      ),
    }
  }

  #get(path: string): Promise<{ status: number; body: string }> {
    return new Promise((resolve, reject) => {
      const failed = (error: Error): void =>
        reject(
          unavailable(`dockerd, which might have a container of that name, does not answer on ${this.socketPath}`, {
            cause: error,
          }),
        )
      const outgoing = request({ socketPath: this.socketPath, path, agent: false }, response => {
        let body = ''
        response.setEncoding('utf8').on('data', (part: string) => {
          body += part
        })
        response.on('end', () => resolve({ status: response.statusCode ?? 0, body }))
        response.on('error', failed)
      })
      outgoing.setTimeout(patienceMs, () => outgoing.destroy(new Error(`no answer within ${patienceMs} ms`)))
      outgoing.on('error', failed)
      outgoing.end()
    })
  }
}
