import { beforeEach, describe, expect, it } from 'vitest'
import { type Element, formatElement, tableOf } from '../../src/firewall/elements.js'
import type { Firewall } from '../../src/firewall/firewall.js'

/** One row of every set and map, of the rules and of the spoof guard. */
export const oneOfEach: Element[] = [
  {
    set: 'publish4',
    protocol: 'tcp',
    hostIp: '192.0.2.1',
    hostPort: 80,
    containerIp: '10.20.0.2',
    containerPort: 8080,
  },
  { set: 'publish4_any', protocol: 'sctp', hostPort: 80, containerIp: '10.20.0.2', containerPort: 8080 },
  {
    set: 'publish4_range',
    protocol: 'udp',
    hostIp: '192.0.2.1',
    ports: { first: 1024, last: 2047 },
    containerIp: '10.20.0.2',
  },
  { set: 'publish4_any_range', protocol: 'tcp', ports: { first: 1, last: 65535 }, containerIp: '10.20.0.2' },
  {
    set: 'publish6',
    protocol: 'tcp',
    hostIp: '2001:db8::1',
    hostPort: 80,
    containerIp: 'fd00:20::2',
    containerPort: 8080,
  },
  { set: 'publish6_any', protocol: 'udp', hostPort: 53, containerIp: 'fd00:20::2', containerPort: 53 },
  {
    set: 'publish6_range',
    protocol: 'tcp',
    hostIp: 'fd00::1:0:0:1',
    ports: { first: 20000, last: 29999 },
    containerIp: 'fd00:20::2',
  },
  { set: 'publish6_any_range', protocol: 'sctp', ports: { first: 7, last: 9 }, containerIp: 'fd00:20::2' },
  {
    set: 'limited4',
    protocol: 'tcp',
    hosts: '0.0.0.0/0',
    ports: { first: 22, last: 22 },
  },
  { set: 'limited6', protocol: 'udp', hosts: '2001:db8::1/128', ports: { first: 20000, last: 29999 } },
  { set: 'from4', protocol: 'tcp', hosts: '0.0.0.0/0', ports: { first: 22, last: 22 }, sources: '10.0.0.0/8' },
  { set: 'from4', protocol: 'tcp', hosts: '0.0.0.0/0', ports: { first: 22, last: 22 }, sources: '192.0.2.9/32' },
  { set: 'from6', protocol: 'tcp', hosts: '::/0', ports: { first: 22, last: 23 }, sources: 'fd00::/8' },
  { set: 'lo_only', protocol: 'tcp', hostIp: '127.0.0.1', hostPort: 8081 },
  { set: 'lo_only_range', protocol: 'tcp', hostIp: '127.0.0.53', ports: { first: 9000, last: 9002 } },
  { set: 'bridges', link: 'br-web' },
  { set: 'internal', link: 'br_web.5' },
  { set: 'others', link: 'docker0' },
  { set: 'clamped', link: 'br-blue' },
  { set: 'intra', from: 'br-web', to: 'br-web' },
  { set: 'masquerade4', link: 'br-web' },
  { set: 'masquerade6', link: 'a23456789012345' },
  { set: 'own_net4', link: 'br-web', subnet: '10.20.0.0/24' },
  { set: 'own_net4', link: 'br-web', subnet: '10.21.0.4/32' },
  { set: 'own_net6', link: 'br-web', subnet: 'fd00:20::/64' },
  { set: 'apart', from: 'br-web', to: 'br-web' },
  { set: 'routed4', link: 'br-web' },
  { set: 'routed6', link: 'br-web' },
  { set: 'unprotected4', link: 'br-lab' },
  { set: 'unprotected6', link: 'br-lab' },
  { set: 'isolated4', link: 'br-shut' },
  { set: 'isolated6', link: 'br-shut' },
  { set: 'trusted', from: 'eth0.100', to: 'br-web' },
  { set: 'open4', protocol: 'tcp', containerIp: '10.20.0.2', containerPort: 80 },
  { set: 'open6', protocol: 'udp', containerIp: 'fd00:20::2', containerPort: 53 },
  {
    set: 'open4_from',
    protocol: 'sctp',
    containerIp: '10.20.0.2',
    ports: { first: 7000, last: 7009 },
    sources: '0.0.0.0/0',
  },
  {
    set: 'open4_from',
    protocol: 'tcp',
    containerIp: '10.20.0.2',
    ports: { first: 22, last: 22 },
    sources: '192.0.2.0/24',
  },
  {
    set: 'open6_from',
    protocol: 'tcp',
    containerIp: 'fd00:20::2',
    ports: { first: 1, last: 65535 },
    sources: '::/0',
  },
  { set: 'snat4', subnet: '10.20.0.0/24', hostIp: '192.0.2.1' },
  { set: 'snat6', subnet: 'fd00:20::/64', hostIp: '2001:db8::1' },
  { set: 'guarded', link: 'tsn0123456789ab' },
  { set: 'sender_macs', link: 'tsn0123456789ab', mac: '02:42:0a:14:00:02' },
  { set: 'senders4', link: 'tsn0123456789ab', mac: '02:42:0a:14:00:02', address: '10.20.0.2' },
  { set: 'senders6', link: 'tsn0123456789ab', mac: '02:42:0a:14:00:02', address: 'fd00:20::2' },
  { set: 'targets6', link: 'tsn0123456789ab', address: 'fd00:20::2' },
  { set: 'targets6', link: 'tsn0123456789ab', address: 'fe80::42:aff:fe14:2' },
  { set: 'also4', link: 'tsn0123456789ab', subnet: '10.20.0.100/32' },
  { set: 'also4', link: 'tsn0123456789ab', subnet: '10.99.0.0/16' },
  { set: 'also6', link: 'tsn0123456789ab', subnet: '::/0' },
  { set: 'also_targets6', link: 'tsn0123456789ab', subnet: 'fd00:99::/64' },
  { set: 'also_targets6', link: 'tsn0123456789ab', subnet: 'fd00:20::100/128' },
  { set: 'also_targets6', link: 'a23456789012345', subnet: '::/0' },
]
/** Those of the rules alone. */
export const oneOfEachRule = oneOfEach.filter(({ set }) => tableOf(set) === 'inet')

const texts = (elements: readonly Element[]): string[] => elements.map(e => `${e.set} ${formatElement(e)}`).sort()
const port = (hostPort: number, containerIp: string): Element => ({
  set: 'publish4_any',
  protocol: 'tcp',
  hostPort,
  containerIp,
  containerPort: 80,
})
const range = (first: number, last: number): Element => ({
  set: 'publish4_any_range',
  protocol: 'tcp',
  ports: { first, last },
  containerIp: '10.20.0.2',
})

/** What every Firewall does, the real ones and the fake. */
export function firewallContract(name: string, make: () => Firewall): void {
  describe(`a firewall (${name})`, () => {
    let firewall: Firewall
    const listed = async () => texts((await firewall.check()).elements)

    beforeEach(async () => {
      firewall = make()
      await firewall.delete()
      await firewall.ensure()
    })

    it('makes its table once', async () => {
      expect(await firewall.ensure()).toEqual({ created: false })
      await firewall.delete()
      expect(await firewall.ensure()).toEqual({ created: true })
      expect((await firewall.check()).elements).toEqual([])
    })

    it('makes its table with the elements that it is told to keep', async () => {
      await firewall.delete()
      await firewall.ensure(oneOfEach)
      expect(await listed()).toEqual(texts(oneOfEach))
    })

    it('lists what was added, of every set and map', async () => {
      await firewall.apply({ add: oneOfEach, delete: [] })
      expect(await listed()).toEqual(texts(oneOfEach))
    })

    it('deletes what is named and nothing else', async () => {
      await firewall.apply({ add: oneOfEach, delete: [] })
      for (const element of oneOfEach) {
        await firewall.apply({ add: [], delete: [element] })
        const rest = oneOfEach.filter(other => other !== element)
        expect(await listed()).toEqual(texts(rest))
        await firewall.apply({ add: [element], delete: [] })
      }
    })

    it('does not mind adding what is there, nor deleting what is not', async () => {
      await firewall.apply({ add: oneOfEach, delete: [] })
      await firewall.apply({ add: [...oneOfEach, port(81, '10.20.0.3')], delete: [port(82, '10.20.0.3')] })
      expect(await listed()).toEqual(texts([...oneOfEach, port(81, '10.20.0.3')]))
      await firewall.apply({ add: [], delete: [...oneOfEach, port(81, '10.20.0.3'), range(70, 71)] })
      expect((await firewall.check()).elements).toEqual([])
    })

    it('moves a key to another value in one transaction, asked as delete and add or as add alone', async () => {
      await firewall.apply({ add: [port(80, '10.20.0.2'), range(5, 6)], delete: [] })
      await firewall.apply({ add: [port(80, '10.20.0.3')], delete: [port(80, '10.20.0.2')] })
      expect(await listed()).toEqual(texts([port(80, '10.20.0.3'), range(5, 6)]))
      await firewall.apply({ add: [port(80, '10.20.0.4')], delete: [] })
      expect(await listed()).toEqual(texts([port(80, '10.20.0.4'), range(5, 6)]))
    })

    it('does all of a change or nothing', async () => {
      await firewall.apply({ add: [range(100, 200), port(80, '10.20.0.2')], delete: [] })
      const change = { add: [port(90, '10.20.0.3'), range(150, 250)], delete: [port(80, '10.20.0.2')] }
      await expect(firewall.apply(change)).rejects.toThrow('File exists')
      expect(await listed()).toEqual(texts([range(100, 200), port(80, '10.20.0.2')]))
    })

    it('leaves nothing of many that come when one of them cannot', async () => {
      await firewall.apply({ add: [range(100, 200), port(80, '10.20.0.2')], delete: [] })
      const many = Array.from({ length: 700 }, (_, i) => port(1000 + i, '10.20.0.3'))
      await expect(firewall.apply({ add: [...many, range(150, 250)], delete: [] })).rejects.toThrow('File exists')
      expect(await listed()).toEqual(texts([range(100, 200), port(80, '10.20.0.2')]))
    })

    it('takes an element given twice as one', async () => {
      await firewall.apply({ add: [port(80, '10.20.0.2'), port(80, '10.20.0.2')], delete: [] })
      expect(await listed()).toEqual(texts([port(80, '10.20.0.2')]))
    })

    it('refuses elements when its table is not there', async () => {
      await firewall.delete()
      await firewall.delete()
      await expect(firewall.apply({ add: [port(80, '10.20.0.2')], delete: [] })).rejects.toThrow('No such file')
      expect((await firewall.check()).elements).toEqual([])
    })

    it('does nothing for an empty change, table or not', async () => {
      await firewall.delete()
      await firewall.apply({ add: [], delete: [] })
    })

    it('applies changes that come at once, each whole', async () => {
      const many = Array.from({ length: 50 }, (_, i) => port(1000 + i, '10.20.0.2'))
      await Promise.all(many.map(element => firewall.apply({ add: [element], delete: [] })))
      expect(await listed()).toEqual(texts(many))
    })

    it.each([
      { set: 'bridges', link: 'br"; flush ruleset' },
      { set: 'bridges', link: 'br-*' },
      { set: 'bridges', link: 'a234567890123456' },
      { ...port(80, '10.20.0.2; }'), set: 'publish4_any' },
      port(80, 'fd00::1'),
      port(65536, '10.20.0.2'),
      port(Number.NaN, '10.20.0.2'),
      range(9, 8),
      { set: 'own_net4', link: 'br-a', subnet: '10.0.0.0/33' },
      { set: 'own_net6', link: 'br-a', subnet: 'FD00::/64' },
      { set: 'limited4', protocol: 'tcp', hosts: '0.0.0.0', ports: { first: 22, last: 22 } },
      { set: 'limited6', protocol: 'udp', hosts: '2001:db8::1/129', ports: { first: 20000, last: 29999 } },
      { set: 'from4', protocol: 'tcp', hosts: '0.0.0.0/0', ports: { first: 22, last: 22 }, sources: 'fd00::/8' },
      { set: 'from6', protocol: 'tcp', hosts: '::/0', ports: { first: 23, last: 22 }, sources: 'fd00::/8' },
      { set: 'lo_only', protocol: 'icmp', hostIp: '127.0.0.1', hostPort: 1 },
      { set: 'sender_macs', link: 'tsn0', mac: '02:42:0A:14:00:02' },
      { set: 'senders4', link: 'tsn0', mac: '02:42:0a:14:00:02 }', address: '10.20.0.2' },
      { set: 'targets6', link: 'tsn0', address: '10.20.0.2' },
      { set: 'also_targets6', link: 'tsn0', subnet: 'fd00::/129' },
    ] as Element[])('refuses $set with a word that is none of its kind: %j', async element => {
      await expect(firewall.apply({ add: [element], delete: [] })).rejects.toMatchObject({ kind: 'InvalidParameter' })
      expect((await firewall.check()).elements).toEqual([])
    })
  })
}
