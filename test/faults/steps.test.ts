import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { messageOf } from '../../src/errors.js'
import { faults } from '../helpers/fault-counter.js'
import { kinds, type Operation, operationsOf } from '../helpers/fault-operations.js'
import { FaultSample, isLong, seed } from '../helpers/fault-sample.js'
import { FaultWorld } from '../helpers/fault-world.js'
import { until } from '../helpers/machine.js'

// Every operation, made to fail at one of its steps, on real kernel, firewall and store. It either says which step failed, and then
// everything is as it was before, or it is done, and then nothing is missing.

let world: FaultWorld
const figures = { operations: 0, steps: 0, undos: 0, leftovers: 0 }

beforeAll(async () => {
  world = await FaultWorld.make()
})
// what one operation leaves is not what the next is judged by
afterEach(async ({ task }) => {
  if (task.result?.state === 'fail') await world.rescue()
})
afterAll(async () => {
  await world?.close()
  const { operations, steps, undos, leftovers } = figures
  const which = isLong ? 'every step' : `a sample, seed ${seed}`
  console.log(
    `${operations} operations, ${steps} steps failed, ${undos} with their undoing, ${leftovers} left over (${which})`,
  )
})

type State = Record<string, unknown>

/** Sockets close in their own time. */
async function expectState(want: State, about: string): Promise<void> {
  let got = want
  const settled = until(
    'the state',
    async () => {
      got = await world.state()
      return JSON.stringify(got) === JSON.stringify(want)
    },
    5_000,
  )
  await settled.catch(() => {
    figures.leftovers++
    throw new Error(`${about}\n${difference(want, got).join('\n')}`)
  })
}

/** A line for every value that is in one of them only, with the way to it. */
function difference(want: State, got: State): string[] {
  const [was, is] = [want, got].map(state => new Set(lines(state)))
  return [...lines(want)]
    .filter(line => !is?.has(line))
    .map(line => `- ${line}`)
    .concat([...lines(got)].filter(line => !was?.has(line)).map(line => `+ ${line}`))
}

function lines(value: unknown, path = ''): string[] {
  const text = JSON.stringify(value) ?? ''
  if (typeof value !== 'object' || value === null || text.length < 300) return [`${path}: ${text}`]
  return Object.entries(value).flatMap(([key, inner]) => lines(inner, `${path}/${Array.isArray(value) ? '' : key}`))
}

/** With many hosts, which step is the store's is told by its name: that it fails twice is a case of its own (test/unit/cluster-faults). */
const isOfStore = (name: string): boolean => name.endsWith(' to the store')

type Fails = (step: number, name: string) => boolean

/** Run with these steps failing. Returns the error, if it throws, and the steps that failed. */
async function attempt(operation: Operation, fails: Fails): Promise<{ error?: unknown; failed: string[] }> {
  const outcome = await faults
    .during(fails, () => operation.run(world.controller))
    .then(
      () => ({}),
      (error: unknown) => ({ error }),
    )
  return { ...outcome, failed: faults.steps.filter((name, i) => fails(i + 1, name)) }
}

interface How {
  /** hosts share a store, which the operation writes */
  isShared: boolean
  /** every step from one on fails, the undoing's too */
  withUndo: boolean
  /** which of the steps are made to fail, by their names */
  takes: (name: string) => boolean
}

async function failSteps(operation: Operation, { isShared, withUndo, takes }: How): Promise<void> {
  const { controller } = world
  await faults.during(
    () => false,
    () => operation.run(controller),
  )
  const names = [...faults.steps]
  await operation.back(controller)
  let before: State | undefined
  for (let step = 1; step <= names.length; step++) {
    if (!takes(names[step - 1] ?? '')) continue
    if (before === undefined) {
      await world.rest()
      before = await world.state()
    }
    const fails: Fails = (n, name) => n === step || (withUndo && n > step && !(isShared && isOfStore(name)))
    const { error, failed } = await attempt(operation, fails)
    await world.settle()
    const name = failed[0]
    const about = `${operation.name}, step ${step}: ${name}${error === undefined ? '' : `: ${messageOf(error)}`}`
    if (name !== undefined) figures[withUndo ? 'undos' : 'steps']++
    // what the store of all hosts did not answer is made good when it answers again
    if (withUndo || (isShared && name !== undefined && isOfStore(name))) {
      const { failures } = await controller.reconcile({ dryRun: false })
      expect(failures, about).toEqual([])
      await world.settle()
    }
    if (error !== undefined) {
      const said = messageOf(error)
      expect(
        failed.some(one => said.includes(one)),
        about,
      ).toBe(true)
      await expectState(before, about)
    } else {
      expect(await world.wrong(), about).toEqual([])
      await operation.back(controller)
      before = undefined
    }
  }
}

const sample = new FaultSample()

describe.each(kinds)('$name', kind => {
  let bare: State
  const isShared = kind.driver === 'overlay'
  beforeAll(async () => {
    for (const { before, run, back, after } of operationsOf(kind).filter(({ name }) => isLong || name === 'connect'))
      for (const work of [before, run, back, after]) await work?.(world.controller)
    await world.rest()
    bare = await world.state()
  })
  test.each(operationsOf(kind))(
    '$name fails at a step and leaves what was, or what reconcile mends',
    async operation => {
      await operation.before?.(world.controller)
      for (const withUndo of [false, true])
        await failSteps(operation, { isShared, withUndo, takes: name => sample.takes(kind.driver, name, withUndo) })
      await operation.after?.(world.controller)
      figures.operations++
      await world.rest()
      await expectState(bare, 'at the end')
    },
  )
})
