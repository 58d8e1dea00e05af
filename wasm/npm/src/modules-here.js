// @ts-check
// The three modules of this package, by the form of address that bundlers follow.

import { BUILT } from './built.js';

/** @import {Modules} from './types.js' */

/**
 * Addresses end with a hash of the content, so that no cache mixes versions.
 * @returns {Modules}
 */
export function modulesOf() {
  const module = (/** @type {keyof typeof BUILT} */ name, /** @type {URL} */ glue, /** @type {URL} */ wasm) => {
    const { bytes, hash } = BUILT[name];
    return { glue: `${glue.href}?${hash}`, wasm: `${wasm.href}?${hash}`, bytes };
  };
  return {
    cpu: module('cpu', new URL('./wasm/cpu.js', import.meta.url), new URL('./wasm/cpu_bg.wasm', import.meta.url)),
    relaxed: module('relaxed', new URL('./wasm/relaxed.js', import.meta.url), new URL('./wasm/relaxed_bg.wasm', import.meta.url)),
    gpu: module('gpu', new URL('./wasm/gpu.js', import.meta.url), new URL('./wasm/gpu_bg.wasm', import.meta.url)),
  };
}
