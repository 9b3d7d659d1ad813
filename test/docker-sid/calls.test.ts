// The same with the newest dockerd that Debian has: vitest.config.ts says where that is.
import '../docker/calls.test.js'
