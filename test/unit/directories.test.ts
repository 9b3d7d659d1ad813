import { chmodSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { checkTrusted, ensureDirectory } from '../../src/directories.js'

describe('ensureDirectory', () => {
  let root: string
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'tst-directories-'))
  })
  afterEach(() => rmSync(root, { recursive: true }))

  it('makes parents too, with the mode, and is content with what exists', () => {
    for (let i = 0; i < 2; i++) ensureDirectory(join(root, 'a', 'b'), 0o700)
    expect([join(root, 'a'), join(root, 'a', 'b')].map(path => statSync(path).mode & 0o777)).toEqual([0o700, 0o700])
  })

  // mkdirSync with `recursive` never returned from this
  it('refuses a path in /proc with one sentence', () => {
    expect(() => ensureDirectory('/proc/no/such', 0o700)).toThrow('directory /proc/no cannot be made: ENOENT')
  })

  it('refuses a path through a file', () => {
    writeFileSync(join(root, 'file'), '')
    expect(() => ensureDirectory(join(root, 'file', 'x'), 0o700)).toThrow(
      `directory ${join(root, 'file')} cannot be made`,
    )
  })
})

describe('checkTrusted', () => {
  let root: string
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'tst-directories-'))
    for (const name of ['open', 'open/inner', 'sticky', 'sticky/inner']) mkdirSync(join(root, name))
    chmodSync(join(root, 'open'), 0o777)
    chmodSync(join(root, 'sticky'), 0o1777)
  })
  afterEach(() => rmSync(root, { recursive: true }))

  it.each(['.', 'sticky', 'sticky/inner'])('takes %s, where nobody else can replace anything', name =>
    checkTrusted(join(root, name)),
  )

  it.each(['open', 'open/inner', 'link', 'link/inner'])(
    'refuses %s, naming the directory that everybody can write',
    name => {
      symlinkSync(join(root, 'open'), join(root, 'link'))
      const message = `directory ${join(root, 'open')} can be written by everybody: chmod o-w ${join(root, 'open')}`
      expect(() => checkTrusted(join(root, name))).toThrow(expect.objectContaining({ kind: 'Forbidden', message }))
    },
  )
})
