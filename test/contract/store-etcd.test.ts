import { afterAll, beforeAll } from 'vitest'
import { openEtcd } from '../../src/store/etcd.js'
import { parseEtcdUrl } from '../../src/store/etcd-url.js'
import { Etcd } from '../helpers/etcd.js'
import { storeContract } from './store.contract.js'

let etcd: Etcd
beforeAll(async () => {
  etcd = await Etcd.start()
})
afterAll(() => etcd.stop())

storeContract('etcd', async () => ({
  store: await openEtcd(parseEtcdUrl(etcd.url('contract'))),
  compact: () => etcd.compact(),
}))
