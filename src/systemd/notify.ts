import { encode, u16 } from '../netlink/codec.js'
import { close, connect, send, socket } from '../netlink/libc.js'

// What a service manager is told of us: sd_notify(3). By libc, because Node has no datagrams over unix sockets.

// sys/socket.h
const afUnix = 1
const sockDgram = 2
const sockCloexec = 0o2000000
const msgNosignal = 0x4000

export type Notify = (state: string) => void

export interface ServiceManager {
  /** all is there: from now on what is needed may be started after us */
  ready(words: string): void
  reloading(): void
  stopping(): void
  close(): void
}

/**
 * The service manager of this process, or one that listens to nothing. Where it wants to hear that we are alive, it does
 * from `ready` on, twice in the time that it waits, from the event loop: one that does not turn says nothing.
 */
export function openServiceManager(environment: NodeJS.ProcessEnv, notify = openNotify(environment)): ServiceManager {
  const watchdogMs = watchdogOf(environment)
  for (const variable of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']) delete environment[variable]
  let timer: NodeJS.Timeout | undefined
  return {
    ready: words => {
      notify(`READY=1\nSTATUS=${words}`)
      if (watchdogMs !== undefined) timer ??= setInterval(() => notify('WATCHDOG=1'), watchdogMs / 2).unref()
    },
    reloading: () => notify(`RELOADING=1\nMONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`),
    stopping: () => notify('STOPPING=1'),
    close: () => clearInterval(timer),
  }
}

function watchdogOf({ WATCHDOG_USEC: us, WATCHDOG_PID: pid }: NodeJS.ProcessEnv): number | undefined {
  if (us === undefined || (pid !== undefined && Number(pid) !== process.pid)) return undefined
  const ms = Number(us) / 1000
  return ms >= 1 && ms < 2 ** 31 ? ms : undefined
}

function openNotify({ NOTIFY_SOCKET: path = '' }: NodeJS.ProcessEnv): Notify {
  if (!/^[/@]/.test(path)) return () => undefined
  // struct sockaddr_un of linux/un.h; an abstract name begins with a zero byte, which is written as an @
  const address = Buffer.concat([encode(u16, afUnix), Buffer.from(path.replace(/^@/, '\0'))])
  return state => {
    const bytes = Buffer.from(state)
    const fd = socket(afUnix, sockDgram | sockCloexec, 0)
    try {
      connect(fd, address, address.length)
      send(fd, bytes, bytes.length, msgNosignal)
    } catch {
      // one that does not listen any more is no reason to stop working
    } finally {
      close(fd)
    }
  }
}
