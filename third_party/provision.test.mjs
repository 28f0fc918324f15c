import { execFileSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { runCommand } from './lib/command.mjs'
import { locate, provision } from './provision.mjs'
import {
  makeBundle,
  makeFakeNpm,
  makeLockFolder,
  makeTarball,
  makeTemporaryFolder,
} from './test-helpers.mjs'

const MANIFEST = JSON.stringify({ name: 'stand-in', version: '1.2.3', license: 'MIT' })
const ORIGINAL = { PATH: process.env.PATH, POLYMIND_CACHE: process.env.POLYMIND_CACHE }
const quiet = () => {}

// The stand-in for npm is a shell script.
describe.skipIf(process.platform === 'win32')('provision', () => {
  let folder
  let cache
  let root
  let tarball
  let commit

  let upstream

  beforeAll(() => {
    const scratch = makeTemporaryFolder()
    upstream = makeBundle(scratch, 'hello.txt', 'hello\n')
    rmSync(scratch, { recursive: true })
  })

  beforeEach(() => {
    folder = makeTemporaryFolder()
    cache = join(folder, 'cache')
    commit = upstream.commit
    tarball = makeTarball({
      'package/package.json': MANIFEST,
      'package/llama/source.bundle': upstream.bundle,
    })
    root = makeLockFolder(folder, tarball, commit)
    writeFileSync(join(folder, 'stand-in.tgz'), tarball)
    process.env.POLYMIND_CACHE = cache
    process.env.PATH = makeFakeNpm(folder, `cp '${folder}/stand-in.tgz' stand-in-1.2.3.tgz`)
  })

  afterEach(() => {
    process.env.PATH = ORIGINAL.PATH
    if (ORIGINAL.POLYMIND_CACHE === undefined) delete process.env.POLYMIND_CACHE
    else process.env.POLYMIND_CACHE = ORIGINAL.POLYMIND_CACHE
    rmSync(folder, { recursive: true, force: true })
  })

  const leftovers = () => (existsSync(cache) ? readdirSync(cache) : [])

  it('unpacks the locked tree, then finds it there', async () => {
    const first = await provision({ root, log: quiet })
    expect(first.fetched).toBe(true)
    expect(readFileSync(join(first.dir, 'hello.txt'), 'utf8')).toBe('hello\n')
    expect(existsSync(join(first.dir, '.download'))).toBe(false)
    const second = await provision({ root, log: quiet })
    expect(second).toEqual({ ...first, fetched: false })
    expect(leftovers()).toEqual([first.dir.slice(cache.length + 1)])
  })

  it('applies patches in the order of their names and keys the tree by them', async () => {
    const plain = locate('llama', root).key
    const patch = (from, to) => `--- a/hello.txt\n+++ b/hello.txt\n@@ -1 +1 @@\n-${from}\n+${to}\n`
    writeFileSync(join(root, 'patches', '0002-second.patch'), patch('one', 'two'))
    writeFileSync(join(root, 'patches', '0001-first.patch'), patch('hello', 'one'))
    const { dir, key } = await provision({ root, log: quiet })
    expect(key).not.toBe(plain)
    expect(readFileSync(join(dir, 'hello.txt'), 'utf8')).toBe('two\n')
  })

  it('refuses a patch that does not fit and leaves nothing', async () => {
    writeFileSync(
      join(root, 'patches', '0001-wrong.patch'),
      '--- a/hello.txt\n+++ b/hello.txt\n@@ -1 +1 @@\n-other\n+text\n',
    )
    await expect(provision({ root, log: quiet })).rejects.toMatchObject({
      code: 'PATCH_FAILED',
      message: expect.stringContaining('0001-wrong.patch'),
    })
    expect(leftovers()).toEqual([])
  })

  it('refuses a tampered archive and leaves nothing', async () => {
    const flipped = Buffer.from(tarball)
    flipped[flipped.length >> 1] ^= 1
    writeFileSync(join(folder, 'stand-in.tgz'), flipped)
    await expect(provision({ root, log: quiet })).rejects.toMatchObject({
      code: 'ARCHIVE_TAMPERED',
      message: expect.stringMatching(/expected sha512-.*\n\s+actual\s+sha512-/),
    })
    expect(leftovers()).toEqual([])
  })

  it('refuses a bundle with another commit than the locked one', async () => {
    root = makeLockFolder(folder, tarball, '0'.repeat(40))
    await expect(provision({ root, log: quiet })).rejects.toMatchObject({
      code: 'ARCHIVE_TAMPERED',
    })
    expect(leftovers()).toEqual([])
  })

  it.each([
    ['a missing file', { files: ['llama/other.bundle'] }, /does not hold llama\/other\.bundle/],
    ['another licence', { license: 'Apache-2.0' }, /expected license Apache-2\.0.*MIT/],
    ['another version', { version: '9.9.9' }, /expected version 9\.9\.9.*1\.2\.3/],
  ])('refuses an archive with %s', async (_what, entry, message) => {
    root = makeLockFolder(folder, tarball, commit, entry)
    await expect(provision({ root, log: quiet })).rejects.toMatchObject({
      code: 'ARCHIVE_INVALID',
      message: expect.stringMatching(message),
    })
    expect(leftovers()).toEqual([])
  })

  it('refuses bytes that are no archive even where the lock names them', async () => {
    const garbage = Buffer.from('not a tarball')
    writeFileSync(join(folder, 'stand-in.tgz'), garbage)
    root = makeLockFolder(folder, garbage, commit)
    await expect(provision({ root, log: quiet })).rejects.toMatchObject({ code: 'ARCHIVE_INVALID' })
    expect(leftovers()).toEqual([])
  })

  it('names the missing program', async () => {
    const bin = join(folder, 'few')
    mkdirSync(bin)
    const helpers = ['cp', 'sh'].map((tool) => [which(tool), join(bin, tool)])
    process.env.PATH = bin
    await expect(provision({ root, log: quiet })).rejects.toMatchObject({
      code: 'TOOL_MISSING',
      message: '`npm` was not found on the PATH',
      hint: expect.stringContaining('nodejs.org'),
    })
    for (const [from, to] of helpers) symlinkSync(from, to)
    symlinkSync(join(folder, 'bin', 'npm'), join(bin, 'npm'))
    await expect(provision({ root, log: quiet })).rejects.toMatchObject({
      code: 'TOOL_MISSING',
      message: '`git` was not found on the PATH',
    })
    expect(leftovers()).toEqual([])
  })

  it('says that the registry could not be reached', async () => {
    process.env.PATH = makeFakeNpm(folder, 'echo "npm error code ENOTFOUND" >&2; exit 1')
    await expect(provision({ root, log: quiet })).rejects.toMatchObject({
      code: 'NETWORK',
      message: expect.stringContaining('fetching stand-in 1.2.3'),
    })
    expect(leftovers()).toEqual([])
  })

  it('asks for the space it needs before it starts', async () => {
    root = makeLockFolder(folder, tarball, commit, { disk_bytes: 1e18 })
    await expect(provision({ root, log: quiet })).rejects.toMatchObject({
      code: 'DISK_FULL',
      message: expect.stringContaining('are needed'),
    })
    expect(leftovers()).toEqual([])
  })

  it('survives a disk that fills up underneath it', async ({ skip }) => {
    mkdirSync(cache)
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', cache], { stdio: 'ignore' })
    } catch {
      skip('needs the right to mount a small file system')
    }
    try {
      const { bundle } = makeBundle(join(folder, 'big'), 'noise.bin', randomText(200_000))
      const large = makeTarball({
        'package/package.json': MANIFEST,
        'package/llama/source.bundle': bundle,
      })
      writeFileSync(join(folder, 'stand-in.tgz'), large)
      root = makeLockFolder(folder, large, commit)
      await expect(provision({ root, log: quiet })).rejects.toMatchObject({ code: 'DISK_FULL' })
      expect(leftovers()).toEqual([])
    } finally {
      execFileSync('umount', [cache])
    }
  })

  it('lets several processes provision at once', async () => {
    const script = `
      import { provision } from ${JSON.stringify(join(import.meta.dirname, 'provision.mjs'))}
      const { dir } = await provision({ root: process.argv[1], log: () => {} })
      console.log(dir)`
    const args = ['--input-type=module', '-e', script, root]
    const runs = await Promise.all([1, 2, 3, 4].map(() => runCommand(process.execPath, args)))
    const dirs = new Set(runs.map(({ stdout }) => stdout.trim()))
    expect(dirs.size).toBe(1)
    expect(readFileSync(join([...dirs][0], 'hello.txt'), 'utf8')).toBe('hello\n')
    expect(leftovers()).toHaveLength(1)
  })

  it('removes its temporary folder when it is interrupted', async () => {
    process.env.PATH = makeFakeNpm(folder, `touch '${folder}/started'; sleep 30`)
    const script = join(import.meta.dirname, 'provision.mjs')
    const run = `
      import { provision } from ${JSON.stringify(script)}
      await provision({ root: process.argv[1], log: () => {} })`
    const abort = new AbortController()
    const finished = runCommand(process.execPath, ['--input-type=module', '-e', run, root], {
      signal: abort.signal,
    }).catch((error) => error)
    await expect.poll(() => existsSync(join(folder, 'started')), { timeout: 20_000 }).toBe(true)
    expect(leftovers()).toHaveLength(1)
    abort.abort()
    await finished
    await expect.poll(leftovers, { timeout: 20_000 }).toEqual([])
  })
})

function which(tool) {
  return execFileSync('sh', ['-c', `command -v ${tool}`], { encoding: 'utf8' }).trim()
}

/** Text that does not compress. */
function randomText(bytes) {
  return Array.from({ length: bytes }, () => String.fromCharCode(33 + Math.random() * 90)).join('')
}
