import { execFileSync, spawnSync } from 'node:child_process'
import { chmodSync, copyFileSync, mkdirSync, symlinkSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { Machine } from './machine.js'
import { repo } from './machine.js'

/** The image of every container in the tests: Debian's static busybox, socat with its libraries, and `serve`. */
export const image = 'busybox'

const print = (command: string, ...args: string[]): string => {
  const got = spawnSync(command, args, { encoding: 'utf8' })
  if (got.status !== 0) throw new Error(`${command} ${args.join(' ')}: ${got.error?.message ?? got.stderr}`)
  return got.stdout
}

/** Packs the image's files from what is installed here; no registry is asked. Returns the path of the archive. */
export function packImage(machine: Machine): string {
  const root = join(machine.dir, 'image')
  for (const dir of ['bin', 'etc', 'tmp']) mkdirSync(join(root, dir), { recursive: true })
  const put = (from: string, to: string) => {
    mkdirSync(dirname(join(root, to)), { recursive: true })
    copyFileSync(from, join(root, to))
    chmodSync(join(root, to), 0o755)
  }
  put('/bin/busybox', '/bin/busybox')
  for (const applet of print('busybox', '--list').split('\n'))
    if (applet && applet !== 'busybox') symlinkSync('busybox', join(root, 'bin', applet))
  put('/usr/bin/socat', '/bin/socat')
  for (const [library] of print('ldd', '/usr/bin/socat').matchAll(/\/\S+/g)) put(library, library)
  put(join(repo, 'test/helpers/serve'), '/bin/serve')
  const archive = join(machine.dir, 'image.tar')
  execFileSync('tar', ['-C', root, '-cf', archive, '.'])
  return archive
}
