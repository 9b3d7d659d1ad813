import { expect, test } from 'vitest'
import { Host } from '../helpers/host.js'

test('the dockerd of this suite is another than the one of this Debian', async () => {
  const host = await Host.startWithDocker()
  try {
    const version = host.docker('version', '--format', '{{.Server.Version}}')
    console.info(`dockerd ${version}`)
    expect(Number.parseInt(version, 10)).toBeGreaterThanOrEqual(28)
  } finally {
    await host.stop()
  }
})
