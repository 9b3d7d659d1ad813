import { invalid } from '../errors.js'
import { fcntl } from '../netlink/libc.js'

// Sockets that a service manager made and listens on before we run, so that who connects meanwhile waits: sd_listen_fds(3).

/** FileDescriptorName= of the socket units, by what we do with them: packaging/systemd/ */
const names = ['api', 'plugin'] as const
export type InheritedSockets = Partial<Record<(typeof names)[number], number>>

const firstFd = 3 // SD_LISTEN_FDS_START
// fcntl(2)
const fSetfd = 2
const fdCloexec = 1

/**
 * The descriptors of the sockets that were handed over to this process; none where they were meant for another. What says
 * so is taken out of the environment, as children are not meant.
 * @throws {NetError} InvalidParameter: a socket that we have no use for
 */
export function takeInheritedSockets(environment: NodeJS.ProcessEnv): InheritedSockets {
  const { LISTEN_PID: pid, LISTEN_FDS: count, LISTEN_FDNAMES: list = '' } = environment
  for (const variable of ['LISTEN_PID', 'LISTEN_FDS', 'LISTEN_FDNAMES']) delete environment[variable]
  if (Number(pid) !== process.pid || !/^\d{1,3}$/.test(count ?? '')) return {}
  const given = list.split(':')
  const sockets: InheritedSockets = {}
  for (let i = 0; i < Number(count); i++) {
    const name = names.find(known => known === given[i])
    if (name === undefined || sockets[name] !== undefined)
      throw invalid(
        `the service manager hands over a socket "${given[i] ?? ''}": one of each of ${names.join(', ')} is taken`,
      )
    fcntl(firstFd + i, fSetfd, fdCloexec)
    sockets[name] = firstFd + i
  }
  return sockets
}
