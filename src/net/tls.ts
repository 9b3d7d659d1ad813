import { readFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { invalid, messageOf } from '../errors.js'

// The API over TCP: with certificates on both sides or not at all, since whoever may use it can become root.

export interface TcpAddress {
  /** name, IPv4 or IPv6 address, this without brackets */
  host: string
  port: number
}

/** Paths of PEM files: who signed the other side's certificate, our own certificate and its key. */
export interface TlsFiles {
  ca: string
  cert: string
  key: string
}

/** `tcp://HOST:PORT`; an IPv6 address stands in brackets. @throws {NetError} InvalidParameter */
export function parseTcpAddress(text: string): TcpAddress {
  const [, host = '', digits = ''] = /^tcp:\/\/(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(\d{1,5})$/.exec(text) ?? []
  const plain = host.replace(/^\[|\]$/g, '')
  const port = Number(digits)
  if (plain === '' || (host.startsWith('[') && isIP(plain) !== 6) || port < 1 || port > 65_535)
    throw invalid(`"${text}" is not tcp://HOST:PORT (an IPv6 address stands in brackets)`)
  return { host: plain, port }
}

export const formatTcpAddress = ({ host, port }: TcpAddress): string =>
  `tcp://${host.includes(':') ? `[${host}]` : host}:${port}`

/**
 * All three or none, with an address that they are for.
 * @param names what they are called where the user gave them
 * @throws {NetError} InvalidParameter
 */
export function requireTls(
  address: string | undefined,
  files: { readonly [K in keyof TlsFiles]: string | undefined },
  names: { readonly [K in keyof TlsFiles | 'address']: string },
): TlsFiles | undefined {
  const { ca, cert, key } = files
  if (address === undefined) {
    const given = (['ca', 'cert', 'key'] as const).find(file => files[file] !== undefined)
    if (given !== undefined) throw invalid(`${names[given]} is of no use without ${names.address}`)
    return undefined
  }
  if (ca !== undefined && cert !== undefined && key !== undefined) return { ca, cert, key }
  throw invalid(
    `${names.address} ${address} takes certificates on both sides: give ${names.ca}, ${names.cert} and ${names.key}`,
  )
}

/** @throws {NetError} InvalidParameter, naming the file that cannot be read */
export function readTlsFiles(files: TlsFiles): { ca: Buffer; cert: Buffer; key: Buffer } {
  const read = (path: string): Buffer => {
    try {
      return readFileSync(path)
    } catch (error) {
      throw invalid(`${path} cannot be read: ${messageOf(error)}`, { cause: error })
    }
  }
  return { ca: read(files.ca), cert: read(files.cert), key: read(files.key) }
}
