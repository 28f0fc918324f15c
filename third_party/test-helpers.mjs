// Makes small stand-ins for the pieces that provisioning talks to: a tarball like npm's, a git
// bundle, and an `npm` on the PATH that hands the tarball out.
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { gzipSync } from 'node:zlib'

export const makeTemporaryFolder = () => mkdtempSync(join(tmpdir(), 'polymind-provision-'))

/** @param {Record<string, Buffer | string>} files names with npm's leading `package/` */
export function makeTarball(files) {
  const blocks = []
  for (const [name, content] of Object.entries(files)) {
    const body = Buffer.from(content)
    const header = Buffer.alloc(512)
    header.write(name, 0)
    header.write('0000644\0', 100)
    header.write(`${body.length.toString(8).padStart(11, '0')}\0`, 124)
    header.write('        ', 148)
    header.write('0', 156)
    header.write('ustar\x0000', 257)
    const sum = header.reduce((total, byte) => total + byte, 0)
    header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
    blocks.push(header, body, Buffer.alloc((512 - (body.length % 512)) % 512))
  }
  return gzipSync(Buffer.concat([...blocks, Buffer.alloc(1024)]))
}

/** A bundle of one commit with one file. */
export function makeBundle(folder, name, text) {
  const repository = join(folder, 'upstream')
  mkdirSync(repository, { recursive: true })
  const git = (...args) =>
    execFileSync('git', args, {
      cwd: repository,
      encoding: 'utf8',
      env: {
        ...process.env,
        GIT_AUTHOR_NAME: 'a',
        GIT_AUTHOR_EMAIL: 'a@example.com',
        GIT_COMMITTER_NAME: 'a',
        GIT_COMMITTER_EMAIL: 'a@example.com',
      },
    })
  git('init', '--quiet')
  writeFileSync(join(repository, name), text)
  git('add', name)
  git('commit', '--quiet', '-m', 'one')
  git('bundle', 'create', '--quiet', 'out.bundle', 'HEAD')
  const commit = git('rev-parse', 'HEAD').trim()
  return { bundle: readFileSync(join(repository, 'out.bundle')), commit }
}

/** A folder with `lock.json` and `patches/`, as third_party/ is. */
export function makeLockFolder(folder, tarball, commit, entry = {}) {
  const root = join(folder, 'third_party')
  mkdirSync(join(root, 'patches'), { recursive: true })
  const integrity = `sha512-${createHash('sha512').update(tarball).digest('base64')}`
  const llama = {
    what: 'a test',
    package: 'stand-in',
    version: '1.2.3',
    integrity,
    files: ['llama/source.bundle'],
    commit,
    license: 'MIT',
    disk_bytes: 1000,
    ...entry,
  }
  writeFileSync(join(root, 'lock.json'), JSON.stringify({ packages: { llama } }))
  return root
}

/** Puts an `npm` first on the PATH; `script` is a shell script. Returns the new PATH. */
export function makeFakeNpm(folder, script) {
  const bin = join(folder, 'bin')
  mkdirSync(bin, { recursive: true })
  writeFileSync(join(bin, 'npm'), `#!/bin/sh\n${script}\n`)
  chmodSync(join(bin, 'npm'), 0o755)
  return `${bin}${delimiter}${process.env.PATH}`
}
