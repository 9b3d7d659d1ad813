import { accessSync } from 'node:fs'
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
    const { Id, Name, State, NetworkSettings, HostsPath, ResolvConfPath } = JSON.parse(body) as Inspect
    const name = Name.replace(/^\//, '')
    if (!State.Running || State.Pid === 0)
      throw conflict(`container ${name} does not run, so it has no namespace to share`)
    return {
      id: Id,
      name,
      netns: netnsOf(State.Pid, NetworkSettings.SandboxKey),
      files: Object.fromEntries(
        [
          ['hosts', HostsPath],
          ['resolv.conf', ResolvConfPath],
        ].filter(([, path]) => path),
      ),
    }
  }
}

/**
 * By its process, which is there wherever we are; the path in dockerd's own directory may be mounted for dockerd alone. But
 * a daemon without CAP_SYS_PTRACE may not look at a process that may do more than it (ptrace(2), access mode checking).
 */
function netnsOf(pid: number, sandboxKey: string | undefined): string {
  const path = `/proc/${pid}/ns/net`
  try {
    accessSync(path)
    return path
  } catch {
    return sandboxKey || path
  }
}
