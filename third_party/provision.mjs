#!/usr/bin/env node
// Fetches the third-party sources that lock.json pins, through npm, into a cache outside the tree.
// Runs before `npm ci`, so it uses Node's own modules only.
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, realpathSync, statfsSync } from 'node:fs'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { readTarball, verifyIntegrity } from './lib/archive.mjs'
import { cacheDir, fillAtomically } from './lib/cache.mjs'
import { cleanGitEnv, runCommand } from './lib/command.mjs'
import { explain, printError, SetupError } from './lib/errors.mjs'

const HERE = dirname(fileURLToPath(import.meta.url))
const STAMP = '.polymind-provisioned.json'

/**
 * Where the sources of a package belong, without fetching them.
 *
 * The key covers the lock's entry and every patch, so that a change of either gives a new folder.
 * @param {string} [root] folder with `lock.json` and `patches/`; default: this one
 * @returns {{ key: string, dir: string, patches: string[], entry: object, ready: boolean }}
 */
export function locate(name = 'llama', root = HERE) {
  const entry = JSON.parse(readFileSync(join(root, 'lock.json'), 'utf8')).packages[name]
  const patchDir = join(root, 'patches')
  const patches = existsSync(patchDir)
    ? readdirSync(patchDir)
        .filter((file) => file.endsWith('.patch'))
        .sort()
        .map((file) => join(patchDir, file))
    : []
  const hash = createHash('sha256').update(JSON.stringify(entry))
  for (const patch of patches) hash.update(readFileSync(patch, 'utf8').replaceAll('\r\n', '\n'))
  const key = hash.digest('hex').slice(0, 16)
  const dir = join(cacheDir(), `${name}-${key}`)
  return { key, dir, patches, entry, ready: existsSync(join(dir, STAMP)) }
}

/**
 * Makes sure the sources are in the cache and returns their folder.
 *
 * All or nothing: on any failure, nothing but what was there before is left behind. Safe to call
 * from several processes at once.
 * @param {{ name?: string, root?: string, log?: (line: string) => void }} [options]
 * @returns {Promise<{ key: string, dir: string, fetched: boolean }>}
 * @throws {SetupError} see `lib/errors.mjs` for the codes
 */
export async function provision({ name = 'llama', root = HERE, log = console.log } = {}) {
  const { key, dir, patches, entry, ready } = locate(name, root)
  if (ready) return { key, dir, fetched: false }
  const doing = `fetching ${entry.package} ${entry.version}`
  try {
    await mkdir(cacheDir(), { recursive: true })
    checkSpace(entry)
    await fillAtomically(dir, STAMP, (temporary) => fill(temporary, { entry, patches, log }))
  } catch (error) {
    throw explain(error, doing)
  }
  log(`ready in ${dir}`)
  return { key, dir, fetched: true }
}

function checkSpace(entry) {
  const { bavail, bsize } = statfsSync(cacheDir())
  const free = Number(bavail) * Number(bsize)
  if (free >= entry.disk_bytes) return
  throw new SetupError(
    'DISK_FULL',
    `${cacheDir()} has ${mega(free)} MB free; ${mega(entry.disk_bytes)} MB are needed`,
    'Free some space, or set POLYMIND_CACHE to a folder on a larger disk.',
  )
}

const mega = (bytes) => Math.floor(bytes / 1e6)

async function fill(tree, { entry, patches, log }) {
  const download = join(tree, '.download')
  await mkdir(download)
  log(`fetching ${entry.package}@${entry.version} with npm (${entry.what})`)
  const archive = await fetchTarball(entry, download)
  await verifyIntegrity(archive, entry.integrity)
  log('the archive matches the lock')
  const files = await readTarball(archive, ['package.json', ...entry.files])
  checkManifest(JSON.parse(files.get('package.json').toString('utf8')), entry)
  const bundle = join(download, 'source.bundle')
  await writeFile(bundle, files.get(entry.files[0]))
  log('unpacking the source tree')
  await unpackBundle(bundle, tree, entry)
  await applyPatches(tree, patches, log)
  await rm(download, { recursive: true })
  const stamp = { package: entry.package, version: entry.version, commit: entry.commit }
  await writeFile(join(tree, STAMP), `${JSON.stringify(stamp, null, 2)}\n`)
}

async function fetchTarball(entry, into) {
  const spec = `${entry.package}@${entry.version}`
  // `into` is npm's working folder, so that no project setting of the caller is picked up.
  await runCommand(
    'npm',
    ['pack', spec, '--ignore-scripts', '--loglevel', 'error', '--pack-destination', '.'],
    {
      cwd: into,
    },
  )
  const archives = readdirSync(into).filter((file) => file.endsWith('.tgz'))
  if (archives.length !== 1) {
    throw new SetupError(
      'ARCHIVE_INVALID',
      `npm pack ${spec} left ${archives.length} archives, not 1`,
    )
  }
  return join(into, archives[0])
}

function checkManifest(manifest, entry) {
  for (const field of ['version', 'license']) {
    if (manifest[field] === entry[field]) continue
    throw new SetupError(
      'ARCHIVE_INVALID',
      `${entry.package}: expected ${field} ${entry[field]}, the archive says ${manifest[field]}`,
    )
  }
}

/** Fetches into the existing folder: `git clone` insists on an empty one. */
async function unpackBundle(bundle, tree, entry) {
  const git = (...args) => runCommand('git', args, { cwd: tree, env: cleanGitEnv() })
  await git('init', '--quiet')
  await git('config', 'core.autocrlf', 'false')
  await git('config', 'gc.auto', '0')
  await writeFile(join(tree, '.git', 'info', 'exclude'), `.download/\n${STAMP}\n`)
  await git('fetch', '--quiet', bundle, 'HEAD')
  const { stdout } = await git('rev-parse', 'FETCH_HEAD')
  if (stdout.trim() !== entry.commit) {
    throw new SetupError(
      'ARCHIVE_TAMPERED',
      `expected commit ${entry.commit} in the bundle, found ${stdout.trim()}`,
    )
  }
  await git('-c', 'advice.detachedHead=false', 'checkout', '--quiet', 'FETCH_HEAD')
}

async function applyPatches(tree, patches, log) {
  for (const patch of patches) {
    const name = patch.split(/[\\/]/).at(-1)
    try {
      await runCommand('git', ['apply', '--whitespace=nowarn', patch], {
        cwd: tree,
        env: cleanGitEnv(),
      })
    } catch (error) {
      const cause = explain(error, `applying ${name}`)
      if (cause.code !== 'COMMAND_FAILED') throw cause
      throw new SetupError(
        'PATCH_FAILED',
        cause.message,
        'The patch does not fit the pinned source: refresh it as third_party/patches/README.md says.',
      )
    }
    log(`applied ${name}`)
  }
}

/** Names, versions and licences of everything that is pinned; read by `mm doctor` and the notices. */
export async function readLock(root = HERE) {
  return JSON.parse(await readFile(join(root, 'lock.json'), 'utf8'))
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  provision().then(
    ({ dir, fetched }) => fetched || console.log(`already provisioned: ${dir}`),
    (error) => {
      printError(error)
      process.exitCode = 1
    },
  )
}
