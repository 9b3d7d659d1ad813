import type { Container, Containers } from '../cnm/driver.js'
import { conflict, notFound, unavailable } from '../errors.js'
import { askDocker } from './api.js'

/** Docker's containers as its API tells of them (moby api/swagger.yaml, ContainerInspect; the oldest version that every dockerd since 20.10 speaks). */
interface Inspect {
  Id: string
  Name: string
  State: { Running: boolean; Pid: number }
  NetworkSettings: { SandboxKey?: string }
  HostsPath?: string
  ResolvConfPath?: string
}

export class DockerContainers implements Containers {
  constructor(readonly socketPath: string) {}

  async find(ref: string): Promise<Container> {
    const path = `/containers/${encodeURIComponent(ref)}/json`
    const wanted = 'which might have a container of that name'
    const { status, body } = await askDocker(this.socketPath, { path }, { wanted })
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
}
