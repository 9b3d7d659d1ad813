import { defineConfig } from 'rolldown'

// The program as few files: reading some four hundred modules one by one is most of what a start takes. A part that is loaded only
// when it is called stays a file of its own. What has native code, or reads files beside its own, stays where npm put it.
export default defineConfig({
  input: 'dist/tsnet.js',
  platform: 'node',
  external: [/^node:/, /^(koffi|lmdb|etcd3)(\/|$)/],
  output: {
    dir: 'dist',
    format: 'esm',
    entryFileNames: '[name].js',
    chunkFileNames: 'bundle-[name].js',
  },
})
