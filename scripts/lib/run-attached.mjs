import { spawn } from 'node:child_process'
import { basename } from 'node:path'

/**
 * Runs a program on this terminal and returns its exit status. Ctrl-C reaches the program, which
 * decides what it means; this process only waits.
 * @param {string} program
 * @param {string[]} args
 * @param {{ cwd?: string, env?: NodeJS.ProcessEnv }} [options]
 * @returns {Promise<number>} 128 when a signal ended it
 */
export function runAttached(program, args, options = {}) {
  const ignore = () => {}
  process.on('SIGINT', ignore)
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: 'inherit', ...options })
    child.on('error', reject)
    child.on('close', (code, signal) => {
      if (signal) console.error(`${basename(args[0] ?? program)} was ended by ${signal}`)
      resolve(code ?? 128)
    })
  }).finally(() => process.removeListener('SIGINT', ignore))
}
