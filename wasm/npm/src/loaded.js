// @ts-check
// A loaded model, in a page or in Node.

import { Detector as Line } from './detector.js';
import { Judge } from './judge.js';
import { findModel } from './published.js';
import { Result } from './result.js';

/** @import {Description, Detection, DeviceChoice, Host, Modules, Progress, Source} from './types.js' */

/** @typedef {'auto' | 'gpu' | 'cpu'} DeviceName */

/** @typedef {{phase: 'download' | 'prepare', loaded: number, total: number}} LoadProgress bytes of the detector and of the model */

/**
 * @typedef {object} LoadOptions
 * @property {DeviceName} [device] `auto`, the default, takes the GPU if there is a real one that passes the self-test
 * @property {string} [model] name of the model, if the site has several; without it the first
 * @property {(progress: LoadProgress) => void} [onProgress]
 * @property {AbortSignal} [signal] stops the loading
 */

/**
 * @typedef {object} DetectOptions
 * @property {string} [class] product whose threshold counts; without it the one whose good photos are nearest, if the model tells products
 * @property {string} [name] of the photo in error messages; without it the file's
 * @property {AbortSignal} [signal] gives the photo up; one that is computed already is computed to its end
 */

/**
 * What runs a model.
 * @typedef {Host & {
 *   modules: () => Modules,
 *   address: (model: string | URL) => URL,
 *   read: (url: URL, name: string) => Promise<Uint8Array<ArrayBuffer> | undefined>,
 *   device: (device: DeviceName) => DeviceName,
 * }} ModelHost
 */

/** @type {Record<DeviceName, DeviceChoice>} */
const DEVICES = { auto: 'auto', gpu: 'webgpu', cpu: 'wasm' };

/** Photos in the worker at a time: one is computed, one is decoded. */
const MOST = 2;

/** Colours of the scale. */
const COLOURS = 256;

/** esbuild and others lower `using` to this name where the engine has none. @type {typeof Symbol.dispose} */
const dispose = Symbol.dispose ?? Symbol.for('Symbol.dispose');

/** @typedef {{line: Line, description: Description, palette: Uint8ClampedArray}} Opened */

/**
 * @param {ModelHost} host
 * @param {string | URL} where
 * @param {LoadOptions} options
 * @returns {Promise<Opened>}
 */
export async function openModel(host, where, { device = 'auto', model: name, onProgress, signal }) {
  signal?.throwIfAborted();
  if (!Object.hasOwn(DEVICES, device)) throw new Error(`device ${device} is not known: it is auto, gpu or cpu`);
  const choice = DEVICES[host.device(device)];
  const { model, models, encoders } = await unlessAborted(findModel(host, where, name), signal);
  const index = { version: 2, modules: host.modules(), models, encoders, samples: [] };
  const report = (/** @type {Progress} */ progress) => {
    if (!signal?.aborted) onProgress?.(/** @type {LoadProgress} */ (progress));
  };
  const line = new Line(index, model, choice, report, host);
  try {
    const description = await unlessAborted(line.open(), signal);
    const { threshold } = description;
    const ramp = Float32Array.from({ length: COLOURS }, (_, i) => (i / (COLOURS - 1)) * 2 * threshold);
    return { line, description, palette: new Uint8ClampedArray(await unlessAborted(line.colours(ramp, null), signal)) };
  } catch (error) {
    line.close();
    throw error;
  }
}

/** A model that inspects photos. */
export class LoadedModel {
  /** @type {Line} */
  #line;
  #palette;
  #judge;
  /** Photos in the worker. */
  #busy = 0;
  /** @type {(() => void)[]} */
  #waiting = [];

  /** What the model and its device are: name, classes with their thresholds, device with its precision, times. @type {Description} */
  description;

  /**
   * @protected
   * @param {Opened} opened
   */
  constructor({ line, description, palette }) {
    this.#line = line;
    this.#palette = palette;
    this.description = description;
    this.#judge = new Judge(description);
  }

  /** The device that computes now. @returns {'gpu' | 'cpu'} */
  get device() {
    return this.description.device.kind === 'webgpu' ? 'gpu' : 'cpu';
  }

  /** Names of the products that the model knows. */
  get classes() {
    return this.description.classes.map(({ name }) => name);
  }

  /**
   * @protected
   * @param {Source} photo
   * @param {DetectOptions} options
   * @returns {Promise<Result>}
   */
  async inspect(photo, { class: chosen, signal }) {
    if (chosen !== undefined && !this.classes.includes(chosen)) {
      throw new Error(`class ${chosen} is not known to this model: it knows ${this.classes.join(', ') || 'no products'}`);
    }
    await this.#turn(signal);
    const looked = this.#line.detect(photo, this.#judge.product([chosen ?? null]), (description) => {
      this.description = description;
    });
    // Its place is taken until the worker is through with it, even if nobody waits for that any more.
    looked.then(() => this.#leave(), () => this.#leave());
    const detection = await unlessAborted(looked, signal);
    const product = this.#judge.product([chosen ?? null, detection.nearest ?? null]);
    return new Result(detection, this.#judge, product, this.#palette, this.device);
  }

  /**
   * Waits until there is place for a photo.
   * @param {AbortSignal} [signal]
   */
  async #turn(signal) {
    if (this.#busy < MOST) {
      this.#busy += 1;
      return;
    }
    let take = () => {};
    /** @type {Promise<void>} */
    const turn = new Promise((resolve) => (take = resolve));
    this.#waiting.push(take);
    await unlessAborted(turn, signal).catch((reason) => {
      const at = this.#waiting.indexOf(take);
      // Its turn may have come meanwhile: then the place goes to the next.
      if (at < 0) this.#leave();
      else this.#waiting.splice(at, 1);
      throw reason;
    });
  }

  /** Hands the place on. */
  #leave() {
    const next = this.#waiting.shift();
    if (next) next();
    else this.#busy -= 1;
  }

  /** Stops the worker and frees its memory. Photos that are not through are refused. */
  close() {
    this.#line.close();
  }

  /** The same at the end of a block, by `using`. */
  [dispose]() {
    this.close();
  }
}

/**
 * The outcome of a promise, or the signal's reason once it is aborted.
 * @template T
 * @param {Promise<T>} promise
 * @param {AbortSignal} [signal]
 * @returns {Promise<T>}
 */
export function unlessAborted(promise, signal) {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const stop = () => reject(signal.reason);
    if (signal.aborted) stop();
    signal.addEventListener('abort', stop, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', stop));
  });
}
