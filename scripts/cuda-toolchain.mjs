// NVIDIA's compiler from PyPI, in the cache that all clones share. Optional: only cuda-compile.mjs
// asks for it.
import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { chmod, readdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { cacheDir, fillAtomically } from '../third_party/lib/cache.mjs'
import { runCommand } from '../third_party/lib/command.mjs'
import { explain, lastLines, SetupError } from '../third_party/lib/errors.mjs'

const REQUIREMENTS = join(dirname(fileURLToPath(import.meta.url)), 'cuda-requirements.txt')
const STAMP = '.polymind-cuda.json'
const PYTHON_HINT = 'Install it: apt install python3-pip | https://pip.pypa.io/'

/**
 * Makes sure the pinned compiler is in the cache.
 * @returns {Promise<{ nvcc: string, fetched: boolean }>}
 * @throws {SetupError} `TOOL_MISSING` (Python, pip, this platform), `NETWORK`, `ARCHIVE_TAMPERED`
 */
export async function cudaToolchain() {
  if (process.platform !== 'linux' || !['x64', 'arm64'].includes(process.arch)) {
    throw new SetupError(
      'TOOL_MISSING',
      `the CUDA compiler is pinned for Linux on x64 and arm64, this is ${process.platform} on ${process.arch}`,
    )
  }
  const pins = readFileSync(REQUIREMENTS, 'utf8')
  const key = createHash('sha256').update(`${process.arch}\n${pins}`).digest('hex').slice(0, 16)
  const dir = join(cacheDir(), `cuda-${key}`)
  const nvcc = join(dir, 'nvidia', 'cu13', 'bin', 'nvcc')
  if (existsSync(join(dir, STAMP))) return { nvcc, fetched: false }
  await fillAtomically(dir, STAMP, async (temporary) => {
    await pipInstall(temporary)
    await makeExecutable(join(temporary, 'nvidia', 'cu13'))
    await writeFile(join(temporary, STAMP), `${JSON.stringify({ key })}\n`)
  })
  return { nvcc, fetched: true }
}

async function pipInstall(into) {
  const args = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--no-deps']
  args.push('--only-binary=:all:', '--require-hashes', '--target', into, '-r', REQUIREMENTS)
  try {
    await runCommand('python3', args)
  } catch (error) {
    throw explainPip(error)
  }
}

/** What a failure of `python3 -m pip` means, as a SetupError. */
export function explainPip(error) {
  const text = `${error?.message ?? ''}\n${error?.output ?? ''}`
  if (error?.code === 'TOOL_MISSING' || /No module named pip/.test(text)) {
    return new SetupError(
      'TOOL_MISSING',
      'the CUDA compiler comes through pip: Python 3 with pip was not found',
      PYTHON_HINT,
    )
  }
  if (/DO NOT MATCH THE HASHES/i.test(text)) {
    return new SetupError(
      'ARCHIVE_TAMPERED',
      `a package is not the one that was pinned: ${lastLines(text)}`,
      'Do not use it. Try again; if it happens again, look at the index that pip is set to.',
    )
  }
  if (/connection|name resolution|timed out|No matching distribution|proxy/i.test(text)) {
    return new SetupError(
      'NETWORK',
      `the package index could not be reached: ${lastLines(text, 4)}`,
      'Check the connection, the proxy settings and `pip config list`, then run it again.',
    )
  }
  return explain(error, 'installing the CUDA compiler')
}

/** pip does not always keep the programs' execute bits when it installs into a folder. */
async function makeExecutable(root) {
  for (const folder of ['bin', join('nvvm', 'bin')]) {
    for (const entry of await readdir(join(root, folder), { withFileTypes: true })) {
      if (entry.isFile()) await chmod(join(root, folder, entry.name), 0o755)
    }
  }
}
