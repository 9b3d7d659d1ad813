import { afterAll, beforeAll } from 'vitest'
import { exposure } from '../helpers/exposure-suite.js'
import { gatewayModes } from '../helpers/modes-suite.js'
import { ModesWorld } from '../helpers/modes-world.js'

// Whom networks let through, and where their ports are, by rules of nftables.

let world: ModesWorld
const options: string[] = []
beforeAll(async () => {
  world = await ModesWorld.start(...options)
})
afterAll(() => world?.host.stop())

gatewayModes(() => world, ...options)
exposure(() => world, ...options)
