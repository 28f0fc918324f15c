/** The chat format of P-Nano: one place that writes it, for training and for evaluation. */

export interface ToolCall {
  tool: string
  args: Record<string, unknown>
}

/** A piece of an answer: words, or a tool call together with the line that comes back. */
export type AnswerPart = string | { call: ToolCall; result: string }

export interface Turn {
  question: string
  answer: AnswerPart[]
}

/** A run of text; `loss` says whether the model is trained to write it. */
export interface TextPart {
  text: string
  loss: boolean
}

export type ToolName = 'calculator' | 'slope'

/** The system segment; empty when there is neither a message nor a tool. */
export function renderSystem(tools: readonly string[], message = ''): string {
  const lines: string[] = []
  if (message !== '') lines.push(message)
  if (tools.length > 0) lines.push(`tools: ${tools.join(', ')}`)
  return lines.length === 0 ? '' : `<|system|>${lines.join('\n')}<|end|>`
}

/** One tool call as the model writes it. */
export function renderCall(call: ToolCall): string {
  return `<tool_call>${JSON.stringify({ tool: call.tool, args: call.args })}</tool_call>`
}

/** An answer with its end token; results of tools carry no loss. */
export function renderAnswer(answer: readonly AnswerPart[]): TextPart[] {
  const parts: TextPart[] = []
  for (const part of answer) {
    if (typeof part === 'string') parts.push({ text: part, loss: true })
    else {
      parts.push({ text: renderCall(part.call), loss: true })
      parts.push({ text: `<tool_result>${part.result}</tool_result>`, loss: false })
    }
  }
  parts.push({ text: '<|end|>', loss: true })
  return parts
}

/** Everything after the opening `<|user|>` and an image: question, answer, further turns. */
export function renderTurns(turns: readonly Turn[], questionFirst = ''): TextPart[] {
  const parts: TextPart[] = []
  turns.forEach((turn, i) => {
    const opening = i === 0 ? questionFirst : `<|user|>${turn.question}`
    parts.push(
      { text: `${opening}<|end|><|assistant|>`, loss: false },
      ...renderAnswer(turn.answer),
    )
  })
  return parts
}

/** The words a user sees of an answer: without calls and results. */
export function answerText(answer: readonly AnswerPart[]): string {
  return answer.filter((part) => typeof part === 'string').join('')
}
