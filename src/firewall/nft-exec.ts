import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { closeSync, openSync, unlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { NftError, type Runner } from './nft.js'

/** The `nft` program, a process for each transaction: the twin of the library for hosts without libnftables.so.1, at many times the cost. */
export function nftExecRunner(program = 'nft'): Runner {
  return { name: 'nft', run: commands => runProgram(program, commands), close() {} }
}

async function runProgram(program: string, commands: string): Promise<string> {
  // `nft -f -` opens /dev/stdin anew, which no socket allows, and Node's pipes are sockets: a nameless file it is.
  const file = nameless(commands)
  try {
    return await outputOf(program, ['-j', '-f', '-'], file)
  } finally {
    closeSync(file)
  }
}

function nameless(text: string): number {
  const path = join(tmpdir(), `tsnet-${randomUUID()}.nft`)
  const file = openSync(path, 'wx+', 0o600)
  unlinkSync(path)
  writeFileSync(file, text)
  return file
}

function outputOf(program: string, args: string[], stdin: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: [stdin, 'pipe', 'pipe'] })
    const output: Buffer[] = []
    const errors: Buffer[] = []
    child.stdout?.on('data', (chunk: Buffer) => output.push(chunk))
    child.stderr?.on('data', (chunk: Buffer) => errors.push(chunk))
    child.on('error', reject)
    child.on('close', code => {
      if (code === 0) resolve(Buffer.concat(output).toString())
      else reject(new NftError(Buffer.concat(errors).toString().trim() || `nft ended with status ${code}`))
    })
  })
}
