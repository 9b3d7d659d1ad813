import fc from 'fast-check'
import { expect, it } from 'vitest'
import type { PortBinding } from '../../src/cnm/types.js'
import { formatElement, overlaps } from '../../src/firewall/elements.js'
import { openElements } from '../../src/firewall/open-ports.js'
import { holds } from '../../src/net/subnets.js'

const clients = ['10.0.0.1', '10.1.0.1', '192.0.2.9']
const someBindings = fc.array(
  fc
    .record({
      protocol: fc.constantFrom('tcp', 'udp'),
      containerPort: fc.integer({ min: 1, max: 12 }),
      size: fc.integer({ min: 1, max: 6 }),
      from: fc.option(fc.subarray(['10.0.0.0/8', '10.1.0.0/16', '192.0.2.9/32', 'fd00::/8'], { minLength: 1 })),
    })
    .map(({ protocol, containerPort, size, from }): PortBinding => {
      const at = { hostIp: '10.20.0.2', hostPort: containerPort, containerIp: '10.20.0.2', containerPort, size }
      return { protocol: protocol as PortBinding['protocol'], ...at, ...(from && { from }), direct: true }
    }),
  { maxLength: 6 },
)

it('whatever is published, everybody comes in who may by any binding, and nobody else', () => {
  const ports = Array.from({ length: 20 }, (_, i) => i)
  fc.assert(
    fc.property(someBindings, bindings => {
      const elements = openElements(bindings)
      for (const protocol of ['tcp', 'udp'])
        for (const port of ports)
          for (const client of clients) {
            const want = bindings.some(
              b =>
                b.protocol === protocol &&
                b.containerPort <= port &&
                port < b.containerPort + b.size &&
                (b.from === undefined || b.from.some(source => holds(source, client))),
            )
            const got = elements.some(e => {
              if (e.set === 'open4') return e.protocol === protocol && e.containerPort === port
              if (e.set !== 'open4_from' || e.protocol !== protocol) return false
              return e.ports.first <= port && port <= e.ports.last && holds(e.sources, client)
            })
            expect([protocol, port, client, got]).toEqual([protocol, port, client, want])
          }
    }),
  )
})

it('no two elements of one source share a port, which no set would take', () => {
  fc.assert(
    fc.property(someBindings, bindings => {
      const elements = openElements(bindings)
      expect(new Set(elements.map(e => `${e.set} ${formatElement(e)}`)).size).toBe(elements.length)
      for (const [i, a] of elements.entries())
        for (const b of elements.slice(i + 1)) expect([a, b, overlaps(a, b)]).toEqual([a, b, false])
    }),
  )
})
