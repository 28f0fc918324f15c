import { parseRequest } from './abi/request.js'
import { prepareConversation } from './media/prepare.js'
import type { NativeRequest } from './native/binding.js'
import { nativeRequest } from './session.js'
import { compileTools } from './tools/compile.js'
import { allowedTools, offeredTools } from './tools/router.js'
import type { Tools } from './tools/tool.js'

/**
 * The prompt of a request that is not run: what `saveConversation()` looks for in the KV cache.
 *
 * @throws MMError like `run()`.
 */
export async function conversationPrompt(
  request: unknown,
  tools: Tools | undefined,
): Promise<NativeRequest> {
  const compiled = compileTools(tools)
  const resolved = parseRequest(request)
  const prepared = await prepareConversation(resolved)
  const offered = offeredTools(compiled, allowedTools(compiled, resolved.tools_allowed))
  return { id: 0, ...nativeRequest(resolved, prepared, offered, 0) }
}
