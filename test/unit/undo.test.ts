import { describe, expect, it } from 'vitest'
import { conflict, kindOf } from '../../src/errors.js'
import { RollbackIncomplete, withUndo } from '../../src/undo.js'

describe('withUndo', () => {
  const steps = ['link', 'address', 'rule', 'record']

  it.each(steps.map((_, k) => k))('leaves nothing behind when step %i fails', async k => {
    const made: string[] = []
    const work = withUndo(async undo => {
      for (const [i, step] of steps.entries()) {
        if (i === k) throw conflict(`no ${step}`)
        made.push(step)
        undo.add(step, () => made.splice(made.indexOf(step), 1))
      }
    })
    await expect(work).rejects.toThrow(`no ${steps[k]}`)
    expect(made).toEqual([])
  })

  it('undoes newest first', async () => {
    const order: string[] = []
    const work = withUndo(async undo => {
      for (const step of steps) undo.add(step, () => order.push(step))
      throw new Error('stop')
    })
    await expect(work).rejects.toThrow('stop')
    expect(order).toEqual([...steps].reverse())
  })

  it('undoes nothing when the work succeeds', async () => {
    const got = await withUndo(async undo => {
      undo.add('never', () => {
        throw new Error('must not run')
      })
      return 42
    })
    expect(got).toBe(42)
  })

  it('goes on past an undo step that fails, names it, and keeps the kind of the first error', async () => {
    const undone: string[] = []
    const error = await withUndo(async undo => {
      undo.add('delete bridge', () => undone.push('bridge'))
      undo.add('delete rule', () => {
        throw new Error('busy')
      })
      throw conflict('name taken')
    }).catch((e: unknown) => e)
    expect(undone).toEqual(['bridge'])
    expect(error).toBeInstanceOf(RollbackIncomplete)
    expect((error as Error).message).toBe('name taken (left behind: undo "delete rule": busy)')
    expect(kindOf(error)).toBe('Conflict')
  })
})
