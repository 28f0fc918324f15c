import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { MMError } from '../errors.js'
import { packageRoot } from '../package-root.js'
import type { NativeBinding } from './binding.js'

const requireFile = createRequire(import.meta.url)

/** One place where the addon was looked for, and why it was not used. */
export interface AddonAttempt {
  path: string
  reason: string
}

let loaded: { binding: NativeBinding; path: string } | undefined

/**
 * Loads the addon once per JavaScript environment (each worker thread has its own instance data).
 *
 * Looks, in order, at `$POLYMIND_ADDON`, `build/Release`, `build/Debug` and the prebuilt binary for
 * this platform. A failure is not remembered: after `npm run build` the next call succeeds.
 *
 * @throws MMError `MM_ENGINE_UNAVAILABLE` listing every attempt and how to fix it on this platform.
 */
export function nativeBinding(): NativeBinding {
  return loadAddon().binding
}

/** Like {@link nativeBinding}, and tells which file was loaded. */
export function loadAddon(root: string = packageRoot()): { binding: NativeBinding; path: string } {
  if (loaded !== undefined) return loaded
  const attempts: AddonAttempt[] = []
  for (const path of candidates(root, attempts)) {
    try {
      loaded = { binding: requireFile(path) as NativeBinding, path }
      return loaded
    } catch (error) {
      attempts.push({ path, reason: firstLine(error) })
    }
  }
  throw notLoaded(attempts)
}

/** Only for tests: makes everything above lib/native run on a fake. Returns the undo function. */
export function useBinding(binding: NativeBinding): () => void {
  const before = loaded
  loaded = { binding, path: '(given by a test)' }
  return () => {
    loaded = before
  }
}

/** Files to try, found one by one: what comes after the one that loads costs nothing. */
function* candidates(root: string, attempts: AddonAttempt[]): Generator<string> {
  const override = process.env.POLYMIND_ADDON
  // An explicit wish is not replaced by something else: a test that asks for the sanitizer build
  // must not silently run on the release build.
  if (override !== undefined && override !== '') {
    yield override
    return
  }
  for (const config of ['Release', 'Debug']) {
    const path = join(root, 'build', config, 'polymind_native.node')
    if (existsSync(path)) yield path
    else attempts.push({ path, reason: 'no such file' })
  }
  const prebuilt = findPrebuilt(root)
  if (prebuilt === undefined) {
    attempts.push({ path: join(root, 'prebuilds', platform()), reason: 'no prebuilt binary' })
  } else if (attempts.every(({ path }) => path !== prebuilt)) {
    yield prebuilt
  }
}

function findPrebuilt(root: string): string | undefined {
  try {
    const { resolve } = requireFile('node-gyp-build') as { resolve(folder: string): string }
    return resolve(root)
  } catch {
    return undefined
  }
}

function platform(): string {
  return `${process.platform}-${process.arch}`
}

function firstLine(error: unknown): string {
  return String(error instanceof Error ? error.message : error).split('\n')[0] ?? ''
}

function notLoaded(attempts: AddonAttempt[]): MMError {
  const tried = attempts.map(({ path, reason }) => `  - ${path}: ${reason}`).join('\n')
  const fixes = platformFixes(attempts.map((attempt) => attempt.reason).join('\n'))
  const message = [
    `expected the native addon of polymind-native for ${platform()} (Node ${process.version}), found none that loads:`,
    tried,
    'What helps:',
    ...fixes.map((fix) => `  - ${fix}`),
  ].join('\n')
  return new MMError('MM_ENGINE_UNAVAILABLE', message, {
    where: 'native addon',
    attempts,
    hint: fixes[0] ?? '',
  })
}

/** Advice that fits the platform and the reasons seen. */
export function platformFixes(reasons: string): string[] {
  const fixes = [
    'in a clone of the repository: run `npm run build` (needs CMake and a C++ compiler)',
  ]
  if (/GLIBC|GLIBCXX/.test(reasons)) {
    fixes.push('the binary was built for a newer C library: build from source on this machine')
  }
  if (/invalid ELF header|wrong architecture|not a valid Win32/i.test(reasons)) {
    fixes.push('node_modules was copied from another platform: remove it and install again here')
  }
  if (process.platform === 'linux') {
    fixes.push(
      'Debian, Ubuntu: `apt-get install build-essential cmake`; Alpine: `apk add build-base cmake`',
    )
  } else if (process.platform === 'darwin') {
    fixes.push('macOS: `xcode-select --install` and `brew install cmake`')
  } else if (process.platform === 'win32') {
    fixes.push('Windows: install Visual Studio Build Tools (C++ workload) and CMake')
  }
  fixes.push(
    'installed from npm with optional or omitted files: install again without `--omit=optional`',
  )
  return fixes
}
