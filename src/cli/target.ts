import { invalid } from '../errors.js'
import { parseTcpAddress, requireTls, type TcpAddress, type TlsFiles } from '../net/tls.js'

/** Where a daemon is asked: on its socket, or over TCP with certificates on both sides. `name` is for people. */
export type Target = { name: string } & ({ socketPath: string } | { tcp: TcpAddress; tls: TlsFiles })

export interface TargetOptions {
  socket: string
  host: string
  tlsCa: string
  tlsCert: string
  tlsKey: string
}

export const defaultSocket = '/run/tsnet/tsnet.sock'

/**
 * What is on the command line goes before the environment, and a host before a socket.
 * @throws {NetError} InvalidParameter
 */
export function chooseTarget(flags: Partial<TargetOptions>, environment: NodeJS.ProcessEnv): Target {
  if (flags.socket !== undefined && flags.host !== undefined)
    throw invalid('--socket and --host name two daemons: give one of them')
  const host = flags.host ?? (flags.socket === undefined ? environment.TSNET_HOST || undefined : undefined)
  if (host === undefined) {
    const { tlsCa: ca, tlsCert: cert, tlsKey: key } = flags
    requireTls(undefined, { ca, cert, key }, flagNames)
    const socketPath = flags.socket ?? (environment.TSNET_SOCKET || defaultSocket)
    return { name: socketPath, socketPath }
  }
  const tcp = parseTcpAddress(host)
  const given = (flag: string | undefined, variable: string) => flag ?? (environment[variable] || undefined)
  const files = {
    ca: given(flags.tlsCa, 'TSNET_TLS_CA'),
    cert: given(flags.tlsCert, 'TSNET_TLS_CERT'),
    key: given(flags.tlsKey, 'TSNET_TLS_KEY'),
  }
  const tls = requireTls(host, files, flagNames)
  if (tls === undefined) throw new Error('an address without certificates')
  return { name: host, tcp, tls }
}

const flagNames = { address: '--host', ca: '--tls-ca', cert: '--tls-cert', key: '--tls-key' }
