import { expect, it } from 'vitest'
import { FakeFirewall } from '../helpers/fake-firewall.js'
import { firewallContract } from '../helpers/firewall-contract.js'

firewallContract('in memory', () => new FakeFirewall())

it('the fake fails when told to, once, with nothing done', async () => {
  const fake = new FakeFirewall()
  await fake.ensure()
  fake.failNext(new Error('no'))
  const change = { add: [{ set: 'bridges', link: 'br-a' } as const], delete: [] }
  await expect(fake.apply(change)).rejects.toThrow('no')
  expect(String(fake)).toBe('')
  await fake.apply(change)
  expect(String(fake)).toBe('bridges "br-a"')
})
