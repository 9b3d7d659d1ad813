import { isIP } from 'node:net'
import { hostname } from 'node:os'
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { invalid } from '../errors.js'
import type { LogLevel } from '../log.js'
import { checkLinkName } from '../names.js'
import { suggestion } from '../nearest.js'
import { formatTcpAddress, parseTcpAddress, requireTls, type TcpAddress, type TlsFiles } from '../net/tls.js'
import { type PublishDefault, publishDefaults } from '../ports/default.js'
import { type EtcdOptions, parseEtcdUrl } from '../store/etcd-url.js'
import { defaultSocket } from './target.js'

/** What the daemon is told: flags of `tsnet daemon`, or lines of its configuration file under the same names. */
export interface DaemonOptions {
  /** absolute path of the API's socket */
  socket: string
  /** who may use the sockets besides root; undefined: docker, where there is such a group */
  socketGroup: string | undefined
  /** where the API listens besides */
  listen: TcpAddress | undefined
  /** absolute paths of PEM files, all of them or none */
  tlsCa: string | undefined
  tlsCert: string | undefined
  tlsKey: string | undefined
  /** absolute path of the directory in which dockerd looks for plugin sockets */
  pluginDir: string
  /** what `docker network create -d` is given */
  pluginName: string
  /** absolute path of dockerd's API socket */
  dockerSocket: string
  stateDir: string
  /** where the namespaces of sandboxes get their names */
  netnsDir: string
  store: StoreOptions
  /** how other hosts know this one */
  hostName: string
  /** address, or link that has it, at which other hosts reach this one; undefined: the link of the default route */
  advertise: string | undefined
  firewall: 'auto' | 'nftables' | 'iptables'
  /** where ports of networks are published when neither -p nor the network says it */
  publishDefault: PublishDefault
  /** whether what others change of ours is put back at once, or only when asked */
  repair: 'auto' | 'off'
  logLevel: LogLevel
}

/** Where objects are kept. */
export type StoreOptions = { kind: 'lmdb' } | ({ kind: 'etcd' } & EtcdOptions)

/** One row: a flag of the daemon, a key of its configuration file, and a field of DaemonOptions. */
export interface DaemonOption<T> {
  /** without dashes; the key in the file */
  flag: string
  /** in the help text: `--flag PLACEHOLDER` */
  placeholder: string
  help: string
  /** what applies when nothing is said */
  default: T
  /** the default as the user would write it, where that is another text */
  defaultText?: string
  /** @throws {NetError} */
  parse(text: string): T
}

const absolute = (text: string): string => {
  if (text === '') throw invalid('a path must not be empty')
  return resolve(text)
}

const oneOf =
  <T extends string>(what: string, words: readonly T[]) =>
  (text: string): T => {
    const word = words.find(known => known === text)
    if (word === undefined) throw invalid(`${what} "${text}" must be ${words.join(', ')}${suggestion(text, words)}`)
    return word
  }

const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const satisfies readonly LogLevel[]

export const daemonOptionTable: { [K in keyof DaemonOptions]: DaemonOption<DaemonOptions[K]> } = {
  socket: {
    flag: 'socket',
    placeholder: 'PATH',
    help: 'where the API listens (also TSNET_SOCKET)',
    default: defaultSocket,
    parse: absolute,
  },
  socketGroup: {
    flag: 'socket-group',
    placeholder: 'GROUP',
    help: 'who may use the sockets besides root: who may can become root; docker is left out where there is no such group',
    default: undefined,
    defaultText: 'docker',
    parse: text => {
      if (!/^[A-Za-z_][A-Za-z0-9_.-]{0,31}$/.test(text)) throw invalid(`"${text}" is no name of a group`)
      return text
    },
  },
  listen: {
    flag: 'listen',
    placeholder: 'tcp://ADDRESS:PORT',
    help: 'where the API listens besides, for clients with a certificate',
    default: undefined,
    parse: parseTcpAddress,
  },
  tlsCa: {
    flag: 'tls-ca',
    placeholder: 'FILE',
    help: 'of --listen: who signs the certificates of clients',
    default: undefined,
    parse: absolute,
  },
  tlsCert: {
    flag: 'tls-cert',
    placeholder: 'FILE',
    help: "of --listen: the daemon's certificate",
    default: undefined,
    parse: absolute,
  },
  tlsKey: {
    flag: 'tls-key',
    placeholder: 'FILE',
    help: 'of --listen: the key of that certificate',
    default: undefined,
    parse: absolute,
  },
  pluginDir: {
    flag: 'plugin-dir',
    placeholder: 'DIR',
    help: 'where dockerd looks for plugin sockets',
    default: '/run/docker/plugins',
    parse: absolute,
  },
  pluginName: {
    flag: 'plugin-name',
    placeholder: 'NAME',
    help: "the driver's name in docker network create -d NAME",
    default: 'tsnet',
    parse: text => {
      if (!/^[a-z0-9][a-z0-9_.-]{0,62}$/.test(text))
        throw invalid(
          `plugin name "${text}" must be 1 to 63 of a-z, 0-9, "_", "." and "-", starting with a letter or digit`,
        )
      return text
    },
  },
  dockerSocket: {
    flag: 'docker-socket',
    placeholder: 'PATH',
    help: "where dockerd tells its containers' names; nothing there is fine",
    default: '/var/run/docker.sock',
    parse: absolute,
  },
  stateDir: {
    flag: 'state-dir',
    placeholder: 'DIR',
    help: 'where the embedded store is kept',
    default: '/var/lib/tsnet',
    parse: absolute,
  },
  netnsDir: {
    flag: 'netns-dir',
    placeholder: 'DIR',
    help: "where sandboxes' namespaces get their names",
    default: '/run/netns',
    parse: absolute,
  },
  store: {
    flag: 'store',
    placeholder: 'lmdb|etcd://HOST[:PORT],...',
    help: 'where objects are kept: lmdb (this host, under --state-dir), or also an etcd that hosts share',
    default: { kind: 'lmdb' },
    defaultText: 'lmdb',
    // nothing of a text that may hold a password is ever said again
    parse: text => {
      if (/^etcds?:\/\//.test(text)) return { kind: 'etcd', ...parseEtcdUrl(text) }
      if (text === 'lmdb') return { kind: 'lmdb' }
      throw invalid('store must be lmdb or etcd://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]...][/PREFIX]')
    },
  },
  hostName: {
    flag: 'host-name',
    placeholder: 'NAME',
    help: 'how other hosts know this one',
    default: hostname(),
    parse: text => {
      if (!/^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$/.test(text))
        throw invalid(`host name "${text}" must be letters, digits, "." and "-", 253 at most`)
      return text
    },
  },
  advertise: {
    flag: 'advertise',
    placeholder: 'IP|IFNAME',
    help: 'the address, or the link that has it, at which other hosts reach this one',
    default: undefined,
    parse: text => (/[.:]/.test(text) ? checkAddress(text) : checkLinkName(text, 'advertised link')),
  },
  firewall: {
    flag: 'firewall',
    placeholder: 'auto|nftables|iptables',
    help: 'what rules are written with; auto: nftables where it works',
    default: 'auto',
    parse: oneOf('firewall', ['auto', 'nftables', 'iptables']),
  },
  publishDefault: {
    flag: 'publish-default',
    placeholder: 'any|lan|loopback',
    help: 'where ports are published when -p names no address: everywhere, at private addresses, or for this host alone',
    default: 'any',
    parse: oneOf('publish default', publishDefaults),
  },
  repair: {
    flag: 'repair',
    placeholder: 'auto|off',
    help: 'what others change of our links and inside sandboxes: put back at once, or by tsnet reconcile alone',
    default: 'auto',
    parse: oneOf('repair', ['auto', 'off']),
  },
  logLevel: {
    flag: 'log-level',
    placeholder: 'LEVEL',
    help: logLevels.join(', '),
    default: 'info',
    parse: oneOf('log level', logLevels),
  },
}

export const defaultConfigFile = '/etc/tsnet/tsnet.yaml'

function checkAddress(text: string): string {
  // a link name may hold a dot too: eth0.100
  if (isIP(text) !== 0) return text
  if (text.includes(':')) throw invalid(`advertised address "${text}" is not an IP address`)
  return checkLinkName(text, 'advertised link')
}

/**
 * Texts by flag name, from the most important source to the least, made into options.
 * @throws {NetError} InvalidParameter or NotImplemented, naming the flag's value and the rule
 */
export function parseDaemonOptions(...sources: Readonly<Record<string, string>>[]): DaemonOptions {
  const values = Object.entries(daemonOptionTable).map(([key, row]) => {
    const text = sources.map(source => source[row.flag]).find(found => found !== undefined)
    return [key, text === undefined ? row.default : row.parse(text)]
  })
  const options = Object.fromEntries(values) as DaemonOptions
  tlsOf(options)
  return options
}

/** Of `--listen`. @throws {NetError} InvalidParameter: certificates without an address, or an address without them */
export function tlsOf({ listen, tlsCa: ca, tlsCert: cert, tlsKey: key }: DaemonOptions): TlsFiles | undefined {
  const names = { address: '--listen', ca: '--tls-ca', cert: '--tls-cert', key: '--tls-key' }
  return requireTls(listen && formatTcpAddress(listen), { ca, cert, key }, names)
}

export function addDaemonOptions(command: Command): Command {
  for (const row of Object.values(daemonOptionTable)) {
    const usual = defaultTextOf(row)
    command.option(`--${row.flag} <${row.placeholder}>`, usual === '' ? row.help : `${row.help} (default: ${usual})`)
  }
  return command
}

/** Empty where there is no default. */
export const defaultTextOf = ({ default: standard, defaultText }: DaemonOption<unknown>): string =>
  defaultText ?? (standard === undefined ? '' : String(standard))

/** What was given on the command line, by flag: `--socket` may also stand before `daemon`. */
export function textsByFlag(command: Command): Record<string, string> {
  const given = { ...command.parent?.opts<Record<string, string>>(), ...command.opts<Record<string, string>>() }
  const texts: Record<string, string> = {}
  for (const [key, { flag }] of Object.entries(daemonOptionTable))
    if (given[key] !== undefined) texts[flag] = given[key]
  return texts
}
