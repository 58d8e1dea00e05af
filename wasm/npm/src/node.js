/// <reference lib="dom" preserve="true" />
/// <reference lib="esnext.disposable" preserve="true" />
// @ts-check
// The package in Node: on the processor, in a thread.

import { readFile } from 'node:fs/promises';
import { pathToFileURL } from 'node:url';

import { LoadedModel, openModel } from './loaded.js';
import { modulesOf } from './modules-here.js';
import { startThread } from './node-thread.js';
import { fetched } from './published.js';
import { Result } from './result.js';

/** @import {ModelHost} from './loaded.js' */
/** @import {Source} from './types.js' */

/** @typedef {import('./loaded.js').DetectOptions} DetectOptions */
/** @typedef {import('./loaded.js').LoadOptions} LoadOptions */
/** @typedef {import('./loaded.js').LoadProgress} LoadProgress */
/** @typedef {import('./loaded.js').DeviceName} DeviceName */
/** @typedef {import('./types.js').Description} Description */
/** @typedef {import('./types.js').Region} Region */
/** @typedef {import('./types.js').Verdict} Verdict */
export { Result };

/** Decoded pixels, as of an `ImageData`: red, green, blue and alpha of each. @typedef {{data: Uint8Array | Uint8ClampedArray, width: number, height: number}} Pixels */

/** Bytes of a photo's file (a `Buffer` too), a `Blob`, or decoded pixels. @typedef {Uint8Array | ArrayBuffer | Blob | Pixels} NodePhoto */

const UNNAMED = '(unnamed)';

/** @type {ModelHost} */
const HOST = {
  base: import.meta.url,
  modules: modulesOf,
  start: async () => startThread(),
  lost: () => {},
  address: (model) => (model instanceof URL || /^(https?|file):/i.test(model) ? new URL(model) : pathToFileURL(model)),
  read: async (url, name) => (url.protocol === 'file:' ? fileAt(url, name) : fetched(url, name)),
  device: (device) => {
    if (device === 'gpu') throw new Error('device gpu is not there in Node, which has no WebGPU: use auto or cpu');
    return 'cpu';
  },
};

/**
 * A published model that inspects photos, in a thread of its own. Close it to free its memory.
 *
 * @example
 * const detector = await Detector.load('path/to/model');
 * const { verdict, score, threshold } = await detector.detect(await readFile('photo.jpg'));
 */
export class Detector extends LoadedModel {
  /**
   * Loads a model: verifies its files, and runs its self-test.
   * @param {string | URL} model path or address (file:, http:, https:) of the folder of a model (with `manifest.json`) or of a site (with `models.json`)
   * @param {LoadOptions} [options]
   * @returns {Promise<Detector>}
   * @throws {Error} of one sentence: no model there, a newer format, a failed self-test; the signal's reason, if it was aborted
   */
  static async load(model, options = {}) {
    return new Detector(await openModel(HOST, model, options));
  }

  /**
   * Inspects a photo.
   * @param {NodePhoto} photo
   * @param {DetectOptions} [options]
   * @returns {Promise<Result>}
   * @throws {Error} of one sentence: a photo that cannot be decoded, an unknown class; the signal's reason, if it was aborted
   */
  async detect(photo, options = {}) {
    options.signal?.throwIfAborted();
    return this.inspect(photoOf(photo, options.name), options);
  }
}

/**
 * @param {URL} url
 * @param {string} name
 * @returns {Promise<Uint8Array<ArrayBuffer> | undefined>} undefined if there is no such file
 */
async function fileAt(url, name) {
  try {
    return new Uint8Array(await readFile(url));
  } catch (error) {
    const { code } = /** @type {NodeJS.ErrnoException} */ (error);
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw new Error(`${name} of the model cannot be read: ${url.pathname} (${code})`);
  }
}

/**
 * @param {NodePhoto} photo
 * @param {string} [name]
 * @returns {Source}
 */
function photoOf(photo, name = UNNAMED) {
  if (photo instanceof Blob) return { name: name === UNNAMED && photo instanceof File ? photo.name : name, arrayBuffer: () => photo.arrayBuffer() };
  if (photo instanceof ArrayBuffer) return { name, ...copied(new Uint8Array(photo)) };
  if (photo instanceof Uint8Array) return { name, ...copied(photo) };
  const { data, width, height } = photo ?? {};
  if (!(data instanceof Uint8Array || data instanceof Uint8ClampedArray) || !Number.isInteger(width) || !Number.isInteger(height)) {
    throw new Error(`photo ${name}: it is neither the bytes of a file (Buffer, Uint8Array, ArrayBuffer, Blob) nor {data, width, height}`);
  }
  return { name, pixels: { width, height }, ...copied(data) };
}

/**
 * Copied at once, because the caller may use its buffer again; and for each try, because a copy is handed over to the thread.
 * @param {Uint8Array | Uint8ClampedArray} bytes
 */
function copied(bytes) {
  const copy = new Uint8Array(bytes);
  return { arrayBuffer: async () => copy.slice().buffer };
}
