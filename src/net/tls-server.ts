import { once } from 'node:events'
import type { RequestListener } from 'node:http'
import { createServer, type Server } from 'node:https'
import { invalid, messageOf, NetError, within } from '../errors.js'
import { type ConnectionOptions, keepConnections, patience } from './connections.js'
import { formatTcpAddress, readTlsFiles, type TcpAddress, type TlsFiles } from './tls.js'

/** A client without a certificate of our CA does not get as far as a request. @throws {NetError} InvalidParameter */
function withContext<T>(files: TlsFiles, use: (options: object) => T): T {
  const pem = readTlsFiles(files)
  try {
    const strict = { requestCert: true, rejectUnauthorized: true, minVersion: 'TLSv1.2', handshakeTimeout: 5_000 }
    return use({ ...pem, ...strict })
  } catch (error) {
    throw invalid(`${files.ca}, ${files.cert} and ${files.key} do not make TLS: ${messageOf(error)}`, { cause: error })
  }
}

export interface TlsServer {
  /** Read the files anew: connections from now on are made with what they hold. @throws {NetError} what is wrong; all stays as it was */
  renew(files: TlsFiles): void
  close(): Promise<void>
}

/** @throws {NetError} InvalidParameter: nothing can listen there, or not with these files; the sentence says why */
export async function listenTls(
  app: RequestListener,
  address: TcpAddress,
  files: TlsFiles,
  connections: ConnectionOptions,
): Promise<TlsServer> {
  try {
    const server: Server = withContext(files, options => createServer({ ...patience, ...options }, app))
    const drain = keepConnections(server, connections)
    server.listen(address)
    await once(server, 'listening')
    let closed: Promise<void> | undefined
    return {
      renew: renewed => withContext(renewed, options => server.setSecureContext(options)),
      close: () => (closed ??= drain()),
    }
  } catch (error) {
    const refusal = error instanceof NetError ? error : invalid(messageOf(error), { cause: error })
    throw within(`listen on ${formatTcpAddress(address)}`, refusal)
  }
}
