import { createHash } from 'node:crypto'
import { existsSync, readFileSync, statSync } from 'node:fs'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { runCommand } from '../../third_party/lib/command.mjs'
import { explain } from '../../third_party/lib/errors.mjs'
import { provision } from '../../third_party/provision.mjs'
import { buildAddon, cpuBuild } from './native.mjs'
import { fingerprint, ROOT, readIfThere } from './paths.mjs'
import { buildThirdParty } from './third-party.mjs'
import { checkTools } from './toolchain.mjs'

const MODULES = join(ROOT, 'node_modules')
const MODULES_STAMP = join(MODULES, '.polymind-lock')
const DIST_STAMP = join(ROOT, 'dist', '.polymind-stamp')
const DIST_INPUTS = [
  'lib',
  'tsdown.config.ts',
  'tsconfig.json',
  'package.json',
  'package-lock.json',
]

/** How many steps `setUp` shows. */
export const SETUP_STEPS = 6

/**
 * Everything between a fresh clone and a program that runs. Each step does nothing when its result
 * is there already.
 * @param {import('./progress.mjs').Progress} progress
 * @returns {Promise<{ source: string, libs: string }>} where llama.cpp is
 * @throws {SetupError}
 */
export async function setUp(progress) {
  const config = cpuBuild()
  let llama
  await progress.step('tools', async () => checkTools())
  await progress.step('npm packages', installPackages)
  await progress.step('third-party sources', async (step) => {
    const { fetched } = await provision({ log: (line) => step.note(line) })
    return fetched ? 'fetched' : 'up to date'
  })
  await progress.step(`llama.cpp libraries (${config})`, async (step) => {
    llama = await buildThirdParty(config, step)
    return llama.built ? 'built' : 'up to date'
  })
  await progress.step(`addon (${config})`, async (step) =>
    (await buildAddon(config, llama, step)) ? 'built' : 'up to date',
  )
  await progress.step('TypeScript', buildTypeScript)
  return llama
}

async function installPackages() {
  const lock = createHash('sha256').update(readFileSync(join(ROOT, 'package-lock.json')))
  const digest = lock.digest('hex')
  if (packagesAreFresh(digest)) return 'up to date'
  try {
    await runCommand('npm', ['ci', '--no-audit', '--no-fund', '--loglevel', 'error'], { cwd: ROOT })
  } catch (error) {
    throw explain(error, 'npm ci')
  }
  await writeFile(MODULES_STAMP, digest)
  return 'installed'
}

/** Also true after a manual `npm ci`, which leaves npm's own hidden lock newer than ours. */
function packagesAreFresh(digest) {
  if (readIfThere(MODULES_STAMP) === digest) return true
  const installed = statSync(join(MODULES, '.package-lock.json'), { throwIfNoEntry: false })
  return Boolean(
    installed && installed.mtimeMs >= statSync(join(ROOT, 'package-lock.json')).mtimeMs,
  )
}

async function buildTypeScript() {
  const key = fingerprint(DIST_INPUTS)
  if (readIfThere(DIST_STAMP) === key) return 'up to date'
  await rm(join(ROOT, 'dist'), { recursive: true, force: true })
  await mkdir(join(ROOT, 'dist'))
  const program = join(MODULES, 'tsdown', 'dist', 'run.mjs')
  try {
    await runCommand(process.execPath, [program], { cwd: ROOT })
  } catch (error) {
    throw explain(error, 'building lib/')
  }
  for (const file of ['index.js', 'index.cjs', 'index.d.ts', 'index.d.cts', 'cli/main.js']) {
    if (!existsSync(join(ROOT, 'dist', file))) throw new Error(`tsdown did not write dist/${file}`)
  }
  await writeFile(DIST_STAMP, key)
  return 'built'
}
