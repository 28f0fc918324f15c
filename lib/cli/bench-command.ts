import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Command } from 'commander'
import { MMError, unavailable } from '../errors.js'
import { packageRoot } from '../package-root.js'
import { type CommonOptions, Output } from './output.js'
import { addCommonOptions } from './request-options.js'

/** Registers `mm bench`, which runs `bench/` of a clone: the npm package does not carry it. */
export function addBenchCommand(program: Command): void {
  const command = program
    .command('bench')
    .description('measure this machine against llama.cpp and node-llama-cpp')
    .argument('[names...]', 'some benchmarks only')
  addCommonOptions(command).action(benchCommand)
}

async function benchCommand(names: string[], options: CommonOptions): Promise<void> {
  const main = join(packageRoot(), 'bench', 'main.ts')
  if (!existsSync(main)) {
    throw unavailable(
      'mm bench',
      'the benchmarks are not part of the npm package',
      'clone the repository',
    )
  }
  const folder = mkdtempSync(join(tmpdir(), 'mm-bench-'))
  try {
    const file = join(folder, 'report.json')
    await runBench(main, options.json === true ? [...names, '--json', file] : names, options)
    if (options.json === true) new Output(options).document(JSON.parse(readFileSync(file, 'utf8')))
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function runBench(main: string, args: string[], options: CommonOptions): Promise<void> {
  // With --json the tables of the benchmarks go to stderr: stdout holds one document.
  const stdout = options.json === true ? 2 : 1
  const child = spawn(process.execPath, ['--import', 'tsx', main, ...args], {
    cwd: packageRoot(),
    stdio: [0, stdout, 2],
  })
  return new Promise((done, fail) => {
    child.on('error', fail)
    child.on('exit', (code) => {
      if (code === 0) done()
      else fail(new MMError('MM_INTERNAL', `the benchmarks ended with exit code ${code}`))
    })
  })
}
