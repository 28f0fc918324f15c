/** Trials report on the last line of standard output. */
export function printResult(result: unknown): void {
  process.stdout.write(`\n${JSON.stringify(result)}\n`)
}

/** What the parent asks for. */
export function trialSpec<Spec>(): Spec {
  return JSON.parse(process.argv[2] ?? '{}') as Spec
}
