import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** PEM files: the CA, the servers' certificate, a client's, and a CA that signed none of them. */
export interface TlsFiles {
  ca: string
  cert: string
  key: string
  clientCert: string
  clientKey: string
  otherCa: string
}

/** Certificates for a day, made by openssl: the servers' for `addresses` and `localhost`. */
export function makeCertificates(dir: string, addresses: readonly string[]): TlsFiles {
  const file = (name: string) => join(dir, name)
  const openssl = (...args: string[]) => execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] })
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
  const makeCa = (name: string) =>
    openssl(
      'req',
      '-x509',
      ...curve,
      '-days',
      '1',
      '-subj',
      `/CN=${name}`,
      '-keyout',
      file(`${name}.key`),
      '-out',
      file(`${name}.pem`),
    )
  const sign = (name: string, extensions: string) => {
    openssl('req', ...curve, '-subj', `/CN=${name}`, '-keyout', file(`${name}.key`), '-out', file(`${name}.csr`))
    writeFileSync(file(`${name}.ext`), extensions)
    const ca = ['-CA', file('ca.pem'), '-CAkey', file('ca.key'), '-CAcreateserial']
    openssl(
      'x509',
      '-req',
      '-days',
      '1',
      '-in',
      file(`${name}.csr`),
      ...ca,
      '-extfile',
      file(`${name}.ext`),
      '-out',
      file(`${name}.pem`),
    )
  }
  makeCa('ca')
  makeCa('other-ca')
  const names = [...new Set(addresses)].map(address => `IP:${address}`)
  // etcd's own gateway is a client of itself with the server's certificate.
  sign('server', `subjectAltName=DNS:localhost,${names.join(',')}\nextendedKeyUsage=serverAuth,clientAuth\n`)
  sign('client', 'extendedKeyUsage=clientAuth\n')
  return {
    ca: file('ca.pem'),
    cert: file('server.pem'),
    key: file('server.key'),
    clientCert: file('client.pem'),
    clientKey: file('client.key'),
    otherCa: file('other-ca.pem'),
  }
}
