import type { Command } from 'commander'
import { type Ability, type DoctorReport, examine } from './doctor.js'
import { Output } from './output.js'
import { addCommonOptions, type ModelOptions, sourceOf } from './request-options.js'

/** Registers `mm doctor`: exit code 0 when the main job can run here, 1 otherwise. */
export function addDoctorCommand(program: Command): void {
  const command = program
    .command('doctor')
    .description('what this machine and build can do, and why not')
    .option(
      '--model <file>',
      'the model whose KV cache is looked at (default: the embedded P-Nano)',
    )
  addCommonOptions(command).action(async (options: ModelOptions) => {
    const output = new Output(options)
    const report = await examine(sourceOf(options))
    if (options.json === true) output.document(report)
    else print(report, output)
    if (!report.addon.available || !report.model.available) process.exitCode = 1
  })
}

function print(report: DoctorReport, output: Output): void {
  const { build } = report.addon
  output.line(`node         ${report.node} on ${report.platform}`)
  output.line(
    `addon        ${ability(report.addon)}${report.addon.path ? ` (${report.addon.path})` : ''}`,
  )
  if (build !== null) {
    output.line(
      `build        ${build.compiler}, ${build.cpu_build} CPU code, sanitizer ${build.sanitizer}`,
    )
  }
  output.line(`cpu          ${report.cpu.features.join(' ') || 'unknown'}`)
  output.line(`llama.cpp    ${ability(report.engines.llama)}`)
  output.line(`onnx         ${ability(report.engines.onnx)}`)
  output.line(`executorch   ${ability(report.engines.executorch)}`)
  output.line(`gpu          ${report.gpu.available ? 'yes' : `no: ${report.gpu.reason}`}`)
  output.line(
    `model        ${report.model.reason === null ? report.model.path : `no: ${report.model.reason}`}`,
  )
  output.line(`kv cache     ${kvLine(report.kv)}`)
  output.line(`sharp        ${ability(report.sharp)}`)
}

function kvLine({ info, reason }: DoctorReport['kv']): string {
  if (info === null) return `unknown: ${reason}`
  if (info.memory !== 'paged') return `llama.cpp's own memory, ${info.dtype}: ${info.reason}`
  return `paged, ${info.dtype}, ${info.kernels} kernels, ${info.bytes_per_token} bytes a token`
}

function ability({ available, version, reason }: Ability): string {
  return available ? `yes, ${version}` : `no: ${reason}`
}
