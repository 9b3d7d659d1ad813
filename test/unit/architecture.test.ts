import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { repo } from '../helpers/machine.js'
import { findCycle, parseSource, readSources, resolveImport, type Source } from '../helpers/source-tree.js'

/** Files that anybody may use; they know nothing but each other. */
const leaves = [
  'errors',
  'directories',
  'undo',
  'reconcile',
  'ticks',
  'locks',
  'damper',
  'mender',
  'log',
  'names',
  'marks',
  'nearest',
  'options',
  'version',
  'v8',
  'ports',
  'net',
]

/** Who may import whom, by folder of src/ or file in it. A part may always import itself and the leaves. */
const arrows: Record<string, readonly string[] | 'everything'> = {
  ...Object.fromEntries(leaves.map(leaf => [leaf, []])),
  store: [],
  netlink: [],
  ipam: ['store'],
  firewall: ['netlink'],
  dns: ['cnm', 'netlink', 'firewall'],
  sandbox: ['cnm', 'netlink'],
  drivers: ['cnm', 'netlink', 'firewall', 'store'],
  dockerd: ['cnm'],
  cluster: ['cnm', 'store'],
  diagnosis: ['cnm', 'drivers', 'dockerd', 'firewall', 'netlink', 'store'],
  cnm: ['ipam', 'store'],
  'plugin-api': ['cnm'],
  api: ['cnm'],
  cli: ['cnm', 'sandbox', 'daemon', 'diagnosis', 'dockerd', 'store'],
  watch: ['netlink'],
  drift: ['netlink'],
  underlay: ['netlink'],
  systemd: ['netlink'],
  daemon: 'everything',
  'daemon-cluster': 'everything',
  'daemon-reload': ['cli'],
  'daemon-drift': 'everything',
  tsnet: ['cli'],
}

/** Plain data: every part may know the shape. */
const sharedShapes = 'src/cnm/types.ts'
/** What these may know of the controller: contracts that they implement or ask for, never its code. */
const contracts: Record<string, readonly string[]> = {
  drivers: ['src/cnm/driver.ts', sharedShapes],
  sandbox: ['src/cnm/driver.ts', sharedShapes],
  dns: ['src/cnm/names.ts', sharedShapes],
  dockerd: ['src/cnm/driver.ts', sharedShapes],
  cluster: ['src/cnm/cluster.ts', 'src/cnm/driver.ts', sharedShapes],
  cli: ['src/cnm/specs.ts', 'src/cnm/diagnosis.ts', sharedShapes],
}

const partOf = (path: string): string =>
  path
    .replace(/^src\//, '')
    .replace(/\.ts$/, '')
    .split('/')[0]!

function wrongArrows({ path, imports }: Source): string[] {
  const part = partOf(path)
  const allowed = arrows[part]
  if (allowed === undefined) return [`${path}: ${part} is not in the table of arrows`]
  if (allowed === 'everything') return []
  return imports.flatMap(({ specifier, typeOnly }) => {
    const target = resolveImport(path, specifier)
    if (target === undefined || (typeOnly && target === sharedShapes)) return []
    const to = partOf(target)
    const wrong = `${path} imports ${target}`
    if (to !== part && !leaves.includes(to) && !allowed.includes(to)) return [wrong]
    return to === 'cnm' && contracts[part] && !(typeOnly && contracts[part].includes(target)) ? [wrong] : []
  })
}

/** Words and modules that belong in one place, each with the files where they may stand. */
const reserved: { what: string; places: readonly RegExp[]; found: (source: Source) => boolean }[] = [
  {
    what: 'koffi',
    places: [/^src\/netlink\/libc\.ts$/, /^src\/firewall\/libnftables\.ts$/],
    found: imports('koffi'),
  },
  {
    what: 'setns',
    places: [/^src\/netlink\/netns\.ts$/, /^src\/netlink\/libc\.ts$/],
    found: says(/\bsetns\b/),
  },
  {
    what: 'a byte offset',
    places: [/^src\/netlink\/codec\.ts$/],
    found: says(/^(read|write)(Big)?U?Int(\d+)?(LE|BE)?$|^[gs]et(Big)?U?[iI]nt\d+$|^DataView$/),
  },
  {
    what: 'a child process',
    places: [/^src\/firewall\/program\.ts$/, /^src\/cli\/run\.ts$/],
    found: imports('node:child_process', 'child_process'),
  },
]

function imports(...modules: string[]): (source: Source) => boolean {
  return source => source.imports.some(({ specifier }) => modules.includes(specifier))
}

function says(pattern: RegExp): (source: Source) => boolean {
  return source => [...source.words].some(word => pattern.test(word))
}

const outOfPlace = (source: Source): string[] =>
  reserved
    .filter(({ places, found }) => found(source) && !places.some(place => place.test(source.path)))
    .map(({ what }) => `${source.path} has ${what}`)

/** The files that a document names by a path from the top of the tree. A path with a star or a brace is a pattern, not a name. */
const filesNamedIn = (text: string): string[] =>
  [...text.matchAll(/(?<![\w/.-])(?:src|test|scripts|docs|\.ci)\/[\w./*{},-]*[\w/]/g)]
    .map(([path]) => path)
    .filter(path => !/[*{]/.test(path))

const sources = readSources('src')

describe('the tree', () => {
  test('has a src/ to read', () => expect(sources.length).toBeGreaterThan(20))

  test('imports only along the arrows', () => expect(sources.flatMap(wrongArrows)).toEqual([]))

  test('has no cycle of imports', () => expect(findCycle(sources)).toBeUndefined())

  test('keeps koffi, setns, byte offsets and child processes each in its place', () =>
    expect(sources.flatMap(outOfPlace)).toEqual([]))

  test('has no file of more than 330 lines', () => {
    const all = [...sources, ...readSources('test')]
    expect(all.filter(({ lines }) => lines > 330).map(({ path, lines }) => `${path}: ${lines}`)).toEqual([])
  })

  test.each(['README.md', 'ARCHITECTURE.md', 'docs/lives.md'])('has every file that %s names', document => {
    const named = filesNamedIn(readFileSync(join(repo, document), 'utf8'))
    expect(named.length).toBeGreaterThan(3)
    expect(named.filter(path => !existsSync(join(repo, path)))).toEqual([])
  })
})

describe('these checks, on samples that break the rules', () => {
  const wrong = (path: string, text: string) => wrongArrows(parseSource(path, text))
  const misplaced = (path: string, text: string) => outOfPlace(parseSource(path, text))

  test.each([
    ['src/errors.ts', "import { KeyedLock } from './store/store.js'"],
    ['src/ports/spec.ts', "import type { Network } from '../ipam/types.js'"],
    ['src/cnm/controller.ts', "import { kernel } from '../netlink/kernel.js'"],
    ['src/cnm/controller.ts', "export { kernel } from '../netlink/kernel.js'"],
    ['src/cnm/controller.ts', "const { kernel } = await import('../netlink/kernel.js')"],
    ['src/cnm/controller.ts', "type K = import('../netlink/kernel.js').Kernel"],
    ['src/netlink/kernel.ts', "import { Controller } from '../cnm/controller.js'"],
    ['src/netlink/kernel.ts', "import { isFamily } from '../cnm/types.js'"],
    ['src/drivers/bridge/driver.ts', "import type { Controller } from '../../cnm/controller.js'"],
    ['src/drivers/bridge/driver.ts', "import { x } from '../../cnm/driver.js'"],
    ['src/cli/network.ts', "import { type NetworkView, parse } from '../cnm/specs.js'"],
    ['src/tsnet.ts', "import './daemon.js'"],
    ['src/newcomer/x.ts', ''],
  ])('%s may not say %s', (path, text) => expect(wrong(path, text)).toHaveLength(1))

  test.each([
    ['src/errors.ts', "import { nearest } from './nearest.js'"],
    ['src/netlink/kernel.ts', "import type { Family } from '../cnm/types.js'"],
    ['src/netlink/kernel.ts', "import { type Family } from '../cnm/types.js'"],
    [
      'src/drivers/bridge/driver.ts',
      "import type { Driver } from '../../cnm/driver.js'\nimport { kernel } from '../../netlink/kernel.js'",
    ],
    ['src/daemon.ts', "import { kernel } from './netlink/kernel.js'"],
    [
      'src/cnm/controller.ts',
      "// import { kernel } from '../netlink/kernel.js'\nconst text = \"from '../netlink/kernel.js'\"",
    ],
  ])('%s may say %s', (path, text) => expect(wrong(path, text)).toEqual([]))

  test.each([
    ['koffi', 'src/cli/run.ts', "import koffi from 'koffi'"],
    ['koffi', 'src/cli/run.ts', "const koffi = await import('koffi')"],
    ['setns', 'src/sandbox/sandbox.ts', 'libc.setns(fd, 0)'],
    ['setns', 'src/sandbox/sandbox.ts', "lib.func('int setns(int fd, int nstype)')"],
    ['a byte offset', 'src/netlink/socket.ts', 'buffer.readUInt32LE(4)'],
    ['a byte offset', 'src/netlink/socket.ts', 'buffer.writeBigUInt64BE(4n, 0)'],
    ['a byte offset', 'src/netlink/socket.ts', 'new DataView(buffer)'],
    ['a child process', 'src/netlink/socket.ts', "import { spawn } from 'node:child_process'"],
  ])('%s is out of place in %s', (what, path, text) => expect(misplaced(path, text)).toEqual([`${path} has ${what}`]))

  test('a comment may speak of setns and readUInt32LE anywhere', () =>
    expect(misplaced('src/cnm/controller.ts', '// setns, then readUInt32LE\n/** writeUInt8 */')).toEqual([]))

  test('a cycle is found and named, and a type-only import does not make one', () => {
    const a = parseSource('src/a.ts', "import { b } from './b.js'")
    const b = parseSource('src/b.ts', "export * from './c.js'")
    const c = (text: string) => parseSource('src/c.ts', text)
    expect(findCycle([a, b, c("import { a } from './a.js'")])).toEqual(['src/a.ts', 'src/b.ts', 'src/c.ts', 'src/a.ts'])
    expect(findCycle([a, b, c("import type { a } from './a.js'")])).toBeUndefined()
  })

  test('paths in a document are found in prose, code and links, patterns and other trees are not', () =>
    expect(
      filesNamedIn('see `src/a.ts`, [it](docs/b.md). Run scripts/test; not src/*/x.ts, /usr/src/linux or src/{a,b}.ts'),
    ).toEqual(['src/a.ts', 'docs/b.md', 'scripts/test']))
})
