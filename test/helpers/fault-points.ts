import { constants } from 'node:fs'
import { vi } from 'vitest'
import { faults } from './fault-counter.js'

// Where the steps of every operation pass through, each with the counter before the real thing. A new step of any driver takes one
// of these ways; a new way (a module that reaches outside the process by itself) belongs in here.

vi.mock('node:fs', async original => {
  const fs = await original<typeof import('node:fs')>()
  const counted = <A extends unknown[], T>(verb: string, call: (path: string, ...rest: A) => T) => {
    return (path: string, ...rest: A): T => {
      faults.step(`${verb} ${path}`)
      return call(path, ...rest)
    }
  }
  const wrapped = {
    writeFileSync: counted('write', fs.writeFileSync as (path: string, text: string) => void),
    mkdirSync: counted('make directory', fs.mkdirSync as (path: string) => string | undefined),
    rmSync: counted('remove', fs.rmSync as (path: string) => void),
    rmdirSync: counted('remove directory', fs.rmdirSync as (path: string) => void),
    openSync: (path: string, flags: number, mode?: number): number => {
      if (typeof flags === 'number' && flags & constants.O_CREAT) faults.step(`create ${path}`)
      return fs.openSync(path, flags, mode)
    },
  }
  return { ...fs, ...wrapped, default: { ...fs, ...wrapped } }
})

vi.mock('../../src/netlink/libc.js', async original => {
  const libc = await original<typeof import('../../src/netlink/libc.js')>()
  const counted =
    <A extends unknown[], T>(name: string, call: (...args: A) => T) =>
    (...args: A): T => {
      faults.step(name)
      return call(...args)
    }
  return {
    ...libc,
    socket: counted('open a netlink socket', libc.socket),
    mount: (...args: Parameters<typeof libc.mount>) => {
      faults.step(`mount ${args[1]}`)
      return libc.mount(...args)
    },
    umount2: (...args: Parameters<typeof libc.umount2>) => {
      faults.step(`umount ${args[0]}`)
      return libc.umount2(...args)
    },
    unshare: counted('unshare', libc.unshare),
  }
})

/** No such message: the kernel itself refuses it (rtnetlink_rcv_msg), and does the others of the same send as ever. */
const noMessage = 0x0fff

vi.mock('../../src/netlink/socket.js', async original => {
  const module = await original<typeof import('../../src/netlink/socket.js')>()
  const socket = module.NetlinkSocket.prototype
  const { exchange, exchangeAsync } = socket
  type Requests = Parameters<typeof exchange>[0]
  const spoilt = (requests: Requests): Requests =>
    requests.map(request => (faults.hits(request.op) ? { ...request, type: noMessage } : request))
  socket.exchange = function (requests) {
    return exchange.call(this, spoilt(requests))
  }
  socket.exchangeAsync = function (requests, told) {
    return faults.waits(exchangeAsync.call(this, spoilt(requests), told))
  }
  return module
})

vi.mock('../../src/firewall/runner.js', async original => {
  const module = await original<typeof import('../../src/firewall/runner.js')>()
  const openRunner = async (choice?: Parameters<typeof module.openRunner>[0]) => {
    const runner = await module.openRunner(choice)
    const run = runner.run.bind(runner)
    runner.run = async commands => {
      if (!commands.startsWith('list')) faults.step(`nft ${commands.split('\n')[0]}`)
      return await run(commands)
    }
    return runner
  }
  return { ...module, openRunner }
})

vi.mock('../../src/firewall/listener.js', async original => {
  const module = await original<typeof import('../../src/firewall/listener.js')>()
  const listen: typeof module.listen = request => {
    faults.step(`bind ${request.hostIps.join(' and ')} port ${request.port}/${request.protocol}`)
    return module.listen(request)
  }
  return { ...module, listen }
})

vi.mock('../../src/store/core.js', async original => {
  const { unavailable } = await import('../../src/errors.js')
  const module = await original<typeof import('../../src/store/core.js')>()
  const store = module.EmbeddedStore.prototype
  const { txn } = store
  store.txn = async function (conditions, operations) {
    const name = `write ${operations.map(({ type, key }) => `${type} ${key}`).join(', ')} to the store`
    if (faults.hits(name)) throw unavailable(`${name}: as after a power cut`)
    return await txn.call(this, conditions, operations)
  }
  return module
})
