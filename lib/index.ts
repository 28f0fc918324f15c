/** polymind-native: multimodal language models inside Node.js. */
export type { LoadOptions } from './abi/load-options.js'
export type { Part } from './abi/parts.js'
export type { Preferences, ResolvedPreferences } from './abi/preferences.js'
export type { Message, RunRequest } from './abi/request.js'
export type { Engine, EngineInfo, EngineStats, Score } from './engine.js'
export {
  isMMError,
  MM_ERROR_CODES,
  MMError,
  type MMErrorCode,
  type MMErrorDetails,
} from './errors.js'
export type { Generation, GenerationOptions } from './generation.js'
export { type LoadSource, load } from './load.js'
export { loadModule, type ModuleHost, type Tensor } from './load-module.js'
export type { MediaReference } from './media/prepare.js'
export { disposeSharedEngine, type RunOptions, run } from './run.js'
export { builtinTools } from './tools/builtin.js'
export type { ToolFailure } from './tools/execute.js'
export {
  defineTool,
  type JsonSchema,
  type Tool,
  type ToolContext,
  type ToolDefinition,
  type Tools,
} from './tools/tool.js'
export type {
  FinishReason,
  PartialResult,
  RunEvent,
  RunOutput,
  RunResult,
  Timings,
  ToolCall,
  ToolCallRecord,
  Usage,
} from './types.js'
