import { spawn } from 'node:child_process'
import { NftError, type Runner } from './runner.js'

/**
 * The `nft` program, a process for each transaction: the twin of the library for hosts without libnftables.so.1, at some 70 times the cost.
 * `command` may put something before it, such as `ip netns exec NAME nft`.
 */
export function nftExecRunner(command: readonly string[] = ['nft']): Runner {
  return { name: 'nft', run: commands => runProgram([...command, '-j', '-f', '-'], commands), close() {} }
}

function runProgram([file = '', ...args]: string[], commands: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { stdio: ['pipe', 'pipe', 'pipe'] })
    const output: Buffer[] = []
    const errors: Buffer[] = []
    child.stdout.on('data', (chunk: Buffer) => output.push(chunk))
    child.stderr.on('data', (chunk: Buffer) => errors.push(chunk))
    child.on('error', reject)
    // A program that ends before it has read everything says why on stderr; the broken pipe adds nothing.
    child.stdin.on('error', () => {})
    child.on('close', code => {
      if (code === 0) resolve(Buffer.concat(output).toString())
      else reject(new NftError(Buffer.concat(errors).toString().trim() || `nft ended with status ${code}`))
    })
    child.stdin.end(commands)
  })
}
