import { run } from './netns.js'

/** The judge: the kernel's own list of listening and bound sockets. */
export const boundSockets = (netns: string): string[] =>
  run(netns, 'ss', '-Htuln')
    .split('\n')
    .filter(Boolean)
    .map(line => {
      const fields = line.split(/\s+/)
      return `${fields[0]} ${fields[4]}`
    })
    .sort()
