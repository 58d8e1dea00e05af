/// <reference lib="esnext.disposable" preserve="true" />
// @ts-check
// The package in a browser.

import { LoadedModel, openModel, unlessAborted } from './loaded.js';
import { modulesOf } from './modules-here.js';
import { photoOf } from './pixels.js';
import { fetched } from './published.js';
import { Result } from './result.js';
import { fromBlob, startWorker } from './start.js';

/** @import {ModelHost} from './loaded.js' */

/** @typedef {import('./loaded.js').DetectOptions} DetectOptions */
/** @typedef {import('./loaded.js').LoadOptions} LoadOptions */
/** @typedef {import('./loaded.js').LoadProgress} LoadProgress */
/** @typedef {import('./loaded.js').DeviceName} DeviceName */
/** @typedef {import('./pixels.js').BrowserPhoto} BrowserPhoto */
/** @typedef {import('./types.js').Description} Description */
/** @typedef {import('./types.js').Region} Region */
/** @typedef {import('./types.js').Verdict} Verdict */
export { Result };

const HERE = import.meta.url;

/** Bundlers find the worker by this form alone. */
const bundled = () => ({ worker: new Worker(new URL('./worker.js', import.meta.url), { type: 'module' }), settle: () => {} });

/** A package from another origin, as on a CDN: browsers start no worker from there, but import it into one. */
const imported = () => fromBlob(HERE.replace(/[^/]*$/, 'worker.js'));

/** @type {ModelHost} */
const HOST = {
  base: HERE,
  modules: modulesOf,
  start: () => startWorker([bundled, imported]).catch(explain),
  lost: () => {},
  address: (model) => new URL(model, globalThis.document?.baseURI ?? globalThis.location.href),
  read: fetched,
  device: (device) => device,
};

/**
 * @param {Error} error why no worker started
 * @returns {never}
 */
function explain(error) {
  if (!HERE.includes('/.vite/deps/')) throw error;
  throw new Error("the detector's worker is not found, because Vite before version 8 moves this package while developing: add " +
    "optimizeDeps: { exclude: ['dinomaly'] } to vite.config.js");
}

/**
 * A published model that inspects photos, in a worker of its own. Close it to free its memory.
 *
 * @example
 * const detector = await Detector.load('model/');
 * const result = await detector.detect(file);
 * console.log(result.verdict, result.score, result.threshold);
 * result.draw(canvas);
 */
export class Detector extends LoadedModel {
  /**
   * Loads a model: verifies its files, keeps them in the browser's cache, opens the device and runs the model's self-test.
   * @param {string | URL} model address of the folder of a model (with `manifest.json`) or of a site (with `models.json`)
   * @param {LoadOptions} [options]
   * @returns {Promise<Detector>}
   * @throws {Error} of one sentence: no model there, a newer format, another origin that is not allowed, no device, a failed self-test;
   *   the signal's reason, if it was aborted
   */
  static async load(model, options = {}) {
    return new Detector(await openModel(HOST, model, options));
  }

  /**
   * Inspects a photo.
   * @param {BrowserPhoto} photo file, or anything that has pixels
   * @param {DetectOptions} [options]
   * @returns {Promise<Result>}
   * @throws {Error} of one sentence: a photo that cannot be decoded, an unknown class; the signal's reason, if it was aborted
   */
  async detect(photo, options = {}) {
    options.signal?.throwIfAborted();
    return this.inspect(await unlessAborted(photoOf(photo, options.name), options.signal), options);
  }
}
