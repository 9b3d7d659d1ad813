import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { closeSync, existsSync, openSync, unlinkSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** A program that ended badly. `details` is what it had to say. */
export class ProgramError extends Error {
  override readonly name = 'ProgramError'
  constructor(
    readonly program: string,
    readonly details: string,
  ) {
    super(details.split('\n')[0] || `${program} failed`)
  }
}

/** Processes whose number may still come up in what the kernel tells of nftables. */
const remembered = 64
const recent = new Set<number>()

/** Whether a process of this number was one of ours, not long ago. */
export const isOurProgram = (pid: number): boolean => recent.has(pid)

/** The path of a program, as PATH has it. */
export const findProgram = (name: string): string | undefined =>
  [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/sbin'].map(dir => join(dir, name)).find(existsSync)

/** Run a firewall's own program to its end, without a shell; returns what it printed. @throws {ProgramError} */
export async function runProgram(program: string, args: readonly string[], input = ''): Promise<string> {
  // `nft -f -` opens /dev/stdin anew, which no socket allows, and Node's pipes are sockets: a nameless file it is.
  const file = nameless(input)
  try {
    return await outputOf(program, args, file)
  } finally {
    closeSync(file)
  }
}

function nameless(text: string): number {
  const path = join(tmpdir(), `tsnet-${randomUUID()}`)
  const file = openSync(path, 'wx+', 0o600)
  unlinkSync(path)
  // where it is read from stays at the beginning
  writeSync(file, text, 0)
  return file
}

function outputOf(program: string, args: readonly string[], stdin: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: [stdin, 'pipe', 'pipe'] })
    remember(child.pid)
    const output: Buffer[] = []
    const errors: Buffer[] = []
    child.stdout?.on('data', (chunk: Buffer) => output.push(chunk))
    child.stderr?.on('data', (chunk: Buffer) => errors.push(chunk))
    child.on('error', reject)
    child.on('close', code => {
      const details = Buffer.concat(errors).toString().trim()
      if (code === 0) resolve(Buffer.concat(output).toString())
      else reject(new ProgramError(program, details || `${program} ended with status ${code}`))
    })
  })
}

function remember(pid: number | undefined): void {
  if (pid === undefined) return
  recent.delete(pid)
  recent.add(pid)
  for (const old of recent) {
    if (recent.size <= remembered) return
    recent.delete(old)
  }
}
