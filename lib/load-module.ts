import { CallSite, unavailable } from './errors.js'

/** A tensor: `data` is row-major, `shape` in elements. */
export interface Tensor {
  dtype: string
  shape: number[]
  data: ArrayBufferView
}

/** A single network behind a manifest. */
export interface ModuleHost {
  describe(): unknown
  run(inputs: Record<string, Tensor>): Promise<Record<string, Tensor>>
}

/**
 * Loads one module (encoder, projector, decoder) from its manifest.
 *
 * @throws MMError `MM_ENGINE_UNAVAILABLE`: the module hosts are not part of this build yet.
 */
export async function loadModule(_manifestPath: string): Promise<ModuleHost> {
  throw new CallSite(loadModule).adopt(
    unavailable(
      'loadModule()',
      'the ONNX Runtime and ExecuTorch hosts are not part of this build yet',
    ),
  )
}
