import { endianness } from 'node:os'
import { encode, struct, u8, u16, u32, u64 } from './codec.js'
import { addressOfBytes, bpf, setsockoptBytes } from './libc.js'

// Which packets, or news of the kernel, reach a socket: linux/filter.h. What does not is dropped without an answer, so that its sender
// tries again later instead of being refused. The same few steps in both of the kernel's languages: an eBPF program is loaded once for
// all sockets; classic BPF, which the kernel compiles anew for each of them, is for where we may not use bpf(2).

/**
 * `nothing`; `unrouted`: IPv6 to ::1 or from a link-local address; `ipv6`: all of that, and nothing of IPv4; `deletedLinks`: of
 * rtnetlink's news that a link is no more
 */
export type Admission = 'nothing' | 'unrouted' | 'ipv6' | 'deletedLinks'

type Step =
  /** read 32 bits of the packet, where and with which mask */
  | { load: number; mask: number }
  /** go on at a label unless what was read is this */
  | { unless: number; goTo: string }
  | { label: string }
  | { admit: boolean }

/** SKF_NET_OFF: offsets count from the network header */
const networkHeader = -0x100000
/** of struct ipv6hdr, linux/ipv6.h */
const sourceAddress = networkHeader + 8
const targetAddress = networkHeader + 24

/** Of IPv6 what the steps say; the socket may hear IPv4 as well, whose header is laid out otherwise. */
const ofIpv6 = (...steps: Step[]): Step[] => [
  { load: networkHeader, mask: 0xf0000000 },
  { unless: 0x60000000, goTo: 'drop' },
  ...steps,
  { admit: true },
  { label: 'drop' },
  { admit: false },
]

/** Where struct nlmsghdr has the type of a message, and behind it struct ifinfomsg the family: linux/netlink.h, linux/rtnetlink.h. */
const messageType = 4
const linkFamily = 16
/** RTM_DELLINK. A load takes 16 bits of the machine's own byte order as if they were the network's. */
const deleteLink = endianness() === 'LE' ? 0x11000000 : 0x00110000

const programs: Record<Admission, Step[]> = {
  nothing: [{ admit: false }],
  unrouted: ofIpv6(
    { load: sourceAddress, mask: 0xffc00000 },
    { unless: 0xfe800000, goTo: 'loopback' },
    { admit: true },
    { label: 'loopback' },
    ...[0, 0, 0, 1].flatMap((word, i): Step[] => [
      { load: targetAddress + 4 * i, mask: 0xffffffff },
      { unless: word, goTo: 'drop' },
    ]),
  ),
  ipv6: ofIpv6(),
  deletedLinks: [
    { load: messageType, mask: 0xffff0000 },
    { unless: deleteLink, goTo: 'drop' },
    // of a bridge's family it is a port no more, which is no end of a link
    { load: linkFamily, mask: 0xff000000 },
    { unless: 0, goTo: 'drop' },
    { admit: true },
    { label: 'drop' },
    { admit: false },
  ],
}

/** An instruction whose `jump` is still the name of a label. */
interface Instruction {
  code: number
  registers?: number
  value: number
  jump?: string
}
type Language = (step: Exclude<Step, { label: string }>) => Instruction[]

/** linux/bpf_common.h: BPF_LD|BPF_W|BPF_ABS, BPF_ALU|BPF_AND|BPF_K, BPF_JMP|BPF_JEQ|BPF_K, BPF_RET|BPF_K */
const classic: Language = step => {
  if ('load' in step)
    return [
      { code: 0x20, value: step.load },
      { code: 0x54, value: step.mask },
    ]
  if ('unless' in step) return [{ code: 0x15, value: step.unless, jump: step.goTo }]
  return [{ code: 0x06, value: step.admit ? 0xffffffff : 0 }]
}

/** linux/bpf.h: the same loads, into register 0; BPF_JMP32|BPF_JNE|BPF_K, BPF_ALU64|BPF_MOV|BPF_K, BPF_JMP|BPF_EXIT */
const extended: Language = step => {
  if ('unless' in step) return [{ code: 0x56, value: step.unless, jump: step.goTo }]
  if ('load' in step) return classic(step)
  return [
    { code: 0xb7, value: step.admit ? 0xffffffff : 0 },
    { code: 0x95, value: 0 },
  ]
}
/** BPF_ALU64|BPF_MOV|BPF_X: loads want the packet in register 6 */
const keepPacket: Instruction = { code: 0xbf, registers: 0x16, value: 0 }

/** Instructions with their jumps as distances. */
function assemble(steps: readonly Step[], language: Language): (Instruction & { distance: number })[] {
  const labels = new Map<string, number>()
  const instructions: Instruction[] = []
  for (const step of steps) {
    if ('label' in step) labels.set(step.label, instructions.length)
    else instructions.push(...language(step))
  }
  return instructions.map((instruction, at) => ({
    ...instruction,
    distance: instruction.jump === undefined ? 0 : (labels.get(instruction.jump) ?? at) - at - 1,
  }))
}

/** struct sock_filter, struct sock_fprog of linux/filter.h */
const classicInstruction = struct([
  ['code', u16],
  ['ifEqual', u8],
  ['ifOther', u8],
  ['value', u32],
])
const classicProgram = struct([
  ['count', u64],
  ['at', u64],
])
/** struct bpf_insn, the begin of union bpf_attr for BPF_PROG_LOAD (5), BPF_PROG_TYPE_SOCKET_FILTER of linux/bpf.h */
const extendedInstruction = struct([
  ['code', u8],
  ['registers', u8],
  ['distance', u16],
  ['value', u32],
])
const extendedProgram = struct([
  ['type', u32],
  ['count', u32],
  ['at', u64],
  ['license', u64],
])
const loadProgram = 5
const socketFilter = 1

// asm-generic/socket.h
const solSocket = 1
const soAttachFilter = 26
const soAttachBpf = 50

/** How a socket is told: the option and its value. `code` is kept because the value points to it. */
interface Attachment {
  option: number
  value: Buffer
  code?: Buffer
}
const attachments = new Map<Admission, Attachment>()

/** From now on only such packets reach the socket. */
export function admit(fd: number, admission: Admission): void {
  const { option, value } = attachments.get(admission) ?? prepare(admission)
  setsockoptBytes(fd, solSocket, option, value, value.length)
}

function prepare(admission: Admission): Attachment {
  const steps = programs[admission]
  let made: Attachment
  try {
    made = { option: soAttachBpf, value: encode(u32, loadExtended(steps)) }
  } catch {
    made = { option: soAttachFilter, ...classicFilter(steps) }
  }
  attachments.set(admission, made)
  return made
}

/** Descriptor of the program, as long as this process lives. @throws {ErrnoError} where bpf(2) is not for us */
function loadExtended(steps: readonly Step[]): number {
  const instructions = [{ ...keepPacket, distance: 0 }, ...assemble(steps, extended)]
  const code = Buffer.concat(
    instructions.map(({ code, registers = 0, distance, value }) =>
      encode(extendedInstruction, { code, registers, distance, value: value >>> 0 }),
    ),
  )
  const license = Buffer.from('GPL\0')
  const [at, licenseAt] = [addressOfBytes(code), addressOfBytes(license)]
  return bpf(
    loadProgram,
    encode(extendedProgram, { type: socketFilter, count: instructions.length, at, license: licenseAt }),
  )
}

/** What SO_ATTACH_FILTER takes. */
function classicFilter(steps: readonly Step[]): { value: Buffer; code: Buffer } {
  const instructions = assemble(steps, classic)
  const code = Buffer.concat(
    instructions.map(({ code, distance, value }) =>
      encode(classicInstruction, { code, ifEqual: 0, ifOther: distance, value: value >>> 0 }),
    ),
  )
  const value = encode(classicProgram, { count: BigInt(instructions.length), at: addressOfBytes(code) })
  return { value, code }
}
