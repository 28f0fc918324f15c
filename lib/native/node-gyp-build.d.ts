declare module 'node-gyp-build' {
  const nodeGypBuild: {
    (dir: string): unknown
    /** Path of the binary for this platform, or throws when there is none. */
    resolve(dir: string): string
  }
  export default nodeGypBuild
}
