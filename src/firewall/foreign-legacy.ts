import { readFileSync } from 'node:fs'
import type { ForwardChain, ForwardRule } from './foreign.js'
import { findProgram, runProgram } from './program.js'

/** The kernel's own list of the tables that iptables-legacy has loaded here; its module makes the file. */
const families = [
  { name: 'ip', program: 'iptables-legacy', tables: '/proc/net/ip_tables_names' },
  { name: 'ip6', program: 'ip6tables-legacy', tables: '/proc/net/ip6_tables_names' },
] as const

const acceptOurs = '-m mark --mark 0x800000/0x800000 -m comment --comment tsnet -j ACCEPT'

/** The FORWARD chains of iptables-legacy, which nftables knows nothing of, where it filters: by its own programs. */
export const legacyForwardChains = (): ForwardChain[] =>
  families
    .filter(({ tables, program }) => isLoaded(tables) && findProgram(program) !== undefined)
    .map(({ name, program }) => {
      const restore = async (lines: readonly string[]): Promise<void> => {
        await runProgram(`${program}-restore`, ['--noflush', '-w'], `*filter\n${lines.join('\n')}\nCOMMIT\n`)
      }
      const list = async () => parse(await runProgram(program, ['-w', '-S', 'FORWARD']))
      return {
        name: `${name} filter FORWARD (legacy)`,
        rules: list,
        async put(stale, after) {
          const staying = (await list()).filter(rule => !stale.some(({ id }) => id === rule.id))
          const place = after === undefined ? 1 : staying.findIndex(({ id }) => id === after.id) + 2
          await restore([...stale.map(({ id }) => `-D ${id}`), `-I FORWARD ${place} ${acceptOurs}`])
        },
        delete: stale => restore(stale.map(({ id }) => `-D ${id}`)),
      }
    })

/** Chains that filter and that there is no program to talk to, in words. */
export const legacyObstacles = (): string[] =>
  families
    .filter(({ tables, program }) => isLoaded(tables) && findProgram(program) === undefined)
    .map(
      ({ name, program }) => `${name} filter FORWARD (legacy): nobody knows, for there is no program ${program} here`,
    )

/** iptables-legacy filters in this namespace. It tells nobody of its changes, so whoever wants to know has to look. */
export const hasLegacyFilter = (): boolean => families.some(({ tables }) => isLoaded(tables))

function isLoaded(path: string): boolean {
  try {
    return readFileSync(path, 'utf8').split('\n').includes('filter')
  } catch {
    return false
  }
}

/** All rules of the table filter of a family, as `iptables-legacy -S` prints them; undefined where it filters nothing, or nobody can say. */
export async function legacyFilter(family: 'ip' | 'ip6'): Promise<string | undefined> {
  const found = families.find(
    ({ name, tables, program }) => name === family && isLoaded(tables) && findProgram(program),
  )
  return found === undefined ? undefined : await runProgram(found.program, ['-w', '-S'])
}

/** Lines such as `-A FORWARD -j DOCKER-USER`; what follows `-A` is what deletes the rule. */
const parse = (text: string): ForwardRule[] =>
  text
    .split('\n')
    .filter(line => line.startsWith('-A '))
    .map(line => ({
      id: line.slice('-A '.length),
      ours: /--comment "?tsnet"? -j ACCEPT$/.test(line),
      jumpsTo: / -j (\S+)/.exec(line)?.[1],
    }))
