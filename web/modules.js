// @ts-check
// Choice of the detector's module for this browser.

/** @import {DeviceChoice, Module, Modules} from './types.js' */

/** A module with one function that uses relaxed SIMD (i8x16.relaxed_swizzle). It is valid if the browser supports that. */
const RELAXED_SIMD = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 15, 1, 13, 0, 65, 1, 253, 15, 65, 2, 253, 15, 253, 128, 2, 11,
]);

/**
 * The module for a device; undefined where the site has none yet.
 * @param {DeviceChoice} device
 * @param {boolean} plain whether the one without relaxed SIMD is wanted, because the other failed
 * @param {Modules} modules
 * @returns {Module | undefined}
 */
export function moduleFor(device, plain, modules) {
  if (device !== 'wasm') return modules.gpu;
  return (!plain && WebAssembly.validate(RELAXED_SIMD) && modules.relaxed) || modules.cpu;
}
