import type { SandboxView } from '../cnm/specs.js'
import { forbidden, invalid, notFound } from '../errors.js'
import type { Entrance } from '../sandbox/enter.js'
import { needSameHost, type Session, write } from './session.js'

/** The words after the options: `-- COMMAND...`, the dashes being optional as in a shell. */
export function commandOf(words: readonly string[]): string[] {
  const command = words[0] === '--' ? words.slice(1) : [...words]
  if (command.length === 0) throw invalid('no command is given: it comes after --')
  if (words[0] !== '--' && command[0]?.startsWith('-'))
    throw invalid(`option ${command[0]} stands where the command should be: options come first, the command after --`)
  return command
}

export function needRootToEnter(): void {
  if (process.geteuid?.() !== 0) throw forbidden('entering a sandbox needs root')
}

/** The files in /etc are those of whom the namespace belongs to. */
export function entranceOf({ name, netns, hostname, shares }: SandboxView): Entrance {
  const entrance = { netns, ...(hostname !== undefined && { hostname }) }
  if (shares === undefined) return { ...entrance, name }
  return {
    ...entrance,
    ...(shares.with === 'sandbox' && { name: shares.name }),
    ...(shares.files && { files: shares.files }),
  }
}

export const warn = (message: string): void => write(process.stderr, `tsnet: ${message}\n`)

/** Never returns: this process becomes the command. */
export async function exec(session: Session, ref: string, words: string[]): Promise<void> {
  const { client } = session
  const command = commandOf(words)
  needSameHost(session, 'exec')
  needRootToEnter()
  const sandbox = await client.get<SandboxView>('sandboxes', ref)
  if (sandbox.missing)
    throw notFound(`the namespace of sandbox ${sandbox.name} is gone: nothing is at ${sandbox.netns}`)
  const { enterSandbox } = await import('../sandbox/enter.js')
  const { replaceProcess } = await import('../sandbox/launch.js')
  enterSandbox(entranceOf(sandbox), warn)
  replaceProcess(command)
}
