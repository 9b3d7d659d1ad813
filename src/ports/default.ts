/** Where a `-p` without an address listens: at every address of the host, at its private ones and loopback, or at loopback alone. */
export const publishDefaults = ['any', 'lan', 'loopback'] as const
export type PublishDefault = (typeof publishDefaults)[number]
