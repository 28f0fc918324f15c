import { spawn } from 'node:child_process'
import { SetupError } from './errors.mjs'

const HINTS = {
  npm: 'npm comes with Node.js: https://nodejs.org/',
  git: 'Install git: apt install git | brew install git | https://git-scm.com/download/win',
  cmake: 'Install CMake 3.18 or newer: apt install cmake | brew install cmake | pip install cmake',
}

/**
 * Runs a program to its end and collects what it prints.
 *
 * @param {string} program name on the PATH, or a path
 * @param {string[]} args
 * @param {object} [options] `cwd`; `env`; `onData(text)` sees the output as it comes; `signal`
 * @returns {Promise<{ stdout: string, output: string }>} `output` is stdout and stderr as they came
 * @throws {SetupError} `TOOL_MISSING` when there is no such program
 * @throws {Error} with `output` and `exitCode` when it ends with another status than 0
 */
export function runCommand(program, args, options = {}) {
  const { cwd, env = process.env, onData, signal } = options
  return new Promise((resolve, reject) => {
    // npm is a batch file on Windows, which only a shell can start; arguments here hold no spaces.
    const shell = process.platform === 'win32' && program === 'npm'
    const child = spawn(program, args, {
      cwd,
      env,
      shell,
      stdio: ['ignore', 'pipe', 'pipe'],
      signal,
    })
    let stdout = ''
    let output = ''
    child.stdout.setEncoding('utf8').on('data', (text) => {
      stdout += text
      output += text
      onData?.(text)
    })
    child.stderr.setEncoding('utf8').on('data', (text) => {
      output += text
      onData?.(text)
    })
    child.on('error', (error) => {
      if (error.code !== 'ENOENT') return reject(error)
      reject(
        new SetupError('TOOL_MISSING', `\`${program}\` was not found on the PATH`, HINTS[program]),
      )
    })
    child.on('close', (exitCode, killedBy) => {
      if (exitCode === 0) return resolve({ stdout, output })
      const how = killedBy ? `was ended by ${killedBy}` : `ended with status ${exitCode}`
      const error = new Error(`\`${program} ${args.join(' ')}\` ${how}`)
      reject(Object.assign(error, { exitCode, output }))
    })
  })
}

/** The environment without git's own variables: a hook of the caller must not redirect our clone. */
export function cleanGitEnv() {
  const env = { ...process.env, GIT_TERMINAL_PROMPT: '0', LC_ALL: 'C' }
  for (const name of Object.keys(env)) {
    if (/^GIT_(DIR|WORK_TREE|INDEX_FILE|OBJECT_DIRECTORY|PREFIX|NAMESPACE)$/.test(name)) {
      delete env[name]
    }
  }
  return env
}
