#!/usr/bin/env node
// Runs the C++ tests under sanitizers: test-sanitized.mjs address|thread. llama.cpp itself is
// instrumented too: otherwise races and overruns on its side of a call would go unseen.
import { join } from 'node:path'
import { runCommand } from '../third_party/lib/command.mjs'
import { explain, printError, SetupError } from '../third_party/lib/errors.mjs'
import { formatCounts, sumRuns } from './lib/counts.mjs'
import { hasGoogleTest, NO_GTEST, runCtest } from './lib/ctest.mjs'
import { ROOT } from './lib/paths.mjs'
import { buildPercent, Progress } from './lib/progress.mjs'
import { buildThirdParty } from './lib/third-party.mjs'
import { checkTools, generatorArgs, JOBS } from './lib/toolchain.mjs'

const OPTIONS = {
  address: {
    ASAN_OPTIONS: 'detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1',
    UBSAN_OPTIONS: 'print_stacktrace=1:halt_on_error=1',
  },
  thread: { TSAN_OPTIONS: 'halt_on_error=1:second_deadlock_stack=1' },
}

async function build(kind, buildDir, llama, step) {
  const defines = [
    '-DCMAKE_BUILD_TYPE=RelWithDebInfo',
    '-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O1 -g',
    `-DPOLYMIND_SANITIZE=${kind}`,
    `-DPOLYMIND_LLAMA_DIR=${llama.source}`,
    `-DPOLYMIND_LLAMA_LIBS=${llama.libs}`,
  ]
  try {
    await runCommand('cmake', ['-S', ROOT, '-B', buildDir, ...generatorArgs(), ...defines])
    if (!hasGoogleTest(buildDir)) throw new SetupError('TOOL_MISSING', NO_GTEST)
    await runCommand('cmake', ['--build', buildDir, '--target', 'polymind_tests', '-j', JOBS], {
      onData: buildPercent((fraction) => step.percent(fraction)),
    })
  } catch (error) {
    throw explain(error, `building the tests with the ${kind} sanitizer`)
  }
}

const kind = process.argv[2]

try {
  if (!(kind in OPTIONS)) {
    throw new SetupError('COMMAND_FAILED', `expected address or thread, got ${kind}`)
  }
  checkTools()
  const buildDir = join(ROOT, 'build', kind)
  const progress = new Progress(2)
  let llama
  await progress.step(`llama.cpp libraries (${kind})`, async (step) => {
    llama = await buildThirdParty(kind, step)
    return llama.built ? 'built' : 'up to date'
  })
  await progress.step(`C++ tests (${kind})`, (step) => build(kind, buildDir, llama, step))
  const sum = sumRuns([await runCtest(buildDir, { ...OPTIONS[kind], ...process.env })])
  process.exitCode = sum.failed > 0 ? 1 : 0
  console.log(`\n${formatCounts(sum)}`)
} catch (error) {
  printError(error)
  process.exitCode = 1
}
