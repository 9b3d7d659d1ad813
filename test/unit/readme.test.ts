import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { daemonOptionTable, defaultTextOf } from '../../src/cli/daemon-options.js'
import { createProgram } from '../../src/cli/program.js'
import { endpointOptions } from '../../src/cnm/endpoint-options.js'
import { bridgeOptions } from '../../src/drivers/bridge/options.js'
import { macvlanOptions } from '../../src/drivers/macvlan/options.js'
import { overlayOptions } from '../../src/drivers/overlay/options.js'
import { helpOf } from '../../src/options.js'
import { repo } from '../helpers/machine.js'

// The README's tables of options are those of the code. A row that is missing here is printed as it should be.

const readme = readFileSync(join(repo, 'README.md'), 'utf8')
const cell = (text: string): string => text.replaceAll('|', '\\|')
const missingFrom = (rows: string[]): string[] => rows.filter(row => !readme.includes(`${row}\n`))

test.each([
  ['bridge', bridgeOptions],
  ['overlay', overlayOptions],
  ['macvlan', macvlanOptions],
])('README lists every option of %s networks with both names, its default and its meaning', (_driver, table) => {
  const rows = helpOf(table).map(
    ({ name, alias = name, default: standard, help }) =>
      `| \`${name}\` | \`${alias}\` | ${standard && `\`${standard}\``} | ${cell(help)} |`,
  )
  expect(missingFrom(rows)).toEqual([])
})

test('README lists every option of an attachment', () => {
  const rows = helpOf(endpointOptions).map(
    ({ name, default: standard, help }) => `| \`${name}\` | ${standard && `\`${standard}\``} | ${cell(help)} |`,
  )
  expect(missingFrom(rows)).toEqual([])
})

test('README lists every option of the daemon with its default and its meaning', () => {
  const rows = Object.values(daemonOptionTable).map(row => {
    const { flag, placeholder, help } = row
    const standard = defaultTextOf(row)
    const usual = standard === hostname() ? "the host's name" : standard && `\`${standard}\``
    return `| \`--${flag} ${cell(placeholder)}\` | ${usual} | ${cell(help)} |`
  })
  expect(missingFrom(rows)).toEqual([])
})

test('README names every command and every flag of network create, connect and run', () => {
  const [network, connect, run] = ['network', 'connect', 'run'].map(
    name => createProgram().commands.find(command => command.name() === name)!,
  )
  const create = network!.commands.find(command => command.name() === 'create')!
  const flags = [create, connect!, run!].flatMap(command =>
    command.options.map(option => option.short ?? option.long ?? ''),
  )
  expect(flags.length).toBeGreaterThan(20)
  expect(
    flags.filter(
      flag => !readme.includes(`\`${flag}`) && !readme.includes(`[${flag}`) && !readme.includes(`, ${flag}`),
    ),
  ).toEqual([])
  const commands = createProgram().commands.flatMap(command => [command, ...command.commands])
  expect(commands.map(command => command.name()).filter(name => !new RegExp(`\\b${name}\\b`).test(readme))).toEqual([])
})
