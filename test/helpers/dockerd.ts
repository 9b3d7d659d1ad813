import type { Machine } from './machine.js'

// Which dockerd the machines of the tests run: this Debian's own, or that of another Debian in a folder, where
// `scripts/test` has put it and TSNET_TEST_DEBIAN says so.

/** The command that starts dockerd on this machine. */
export function dockerdOf(machine: Machine): string[] {
  const debian = process.env.TSNET_TEST_DEBIAN
  if (!debian) return ['/usr/sbin/dockerd']
  if (machine.tryRun('test', '-d', root).status !== 0) machine.run('sh', '-ec', mounts, debian, root, ...shared)
  return ['unshare', '--mount', '--propagation', 'unchanged', 'sh', '-ec', pivot, root, 'dockerd']
}

/** Where the other Debian is on the machine; what is written there goes with the machine. */
const root = '/var/lib/other-debian/root'

/** What its programs share with the machine. */
const shared = ['/proc', '/sys', '/dev', '/run', '/tmp', '/etc/docker', '/var/lib/docker']

/** Namespaces of containers are mounts below /run, which tsnet has to see: those propagate. */
const mounts = `
  layers=$(dirname "$1")
  mkdir -p "$layers"
  mount -t tmpfs tmpfs "$layers"
  mkdir "$layers/upper" "$layers/work" "$1"
  mount -t overlay -o "lowerdir=$0,upperdir=$layers/upper,workdir=$layers/work" overlay "$1"
  mount --make-shared /run
  root=$1
  shift
  for dir; do
    mkdir -p "$dir" "$root$dir"
    mount --rbind "$dir" "$root$dir"
  done
`

/** Not chroot: with that, runc has its containers' processes see the machine's files. */
const pivot = `
  cd "$0"
  mkdir -p .machine
  pivot_root . .machine
  cd /
  mount --make-rprivate .machine # or the machine would lose with us what is mounted below its /run
  umount -l .machine
  exec "$@"
`
