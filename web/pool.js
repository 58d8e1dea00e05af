// @ts-check
// Several photos at a time: on the CPU one per worker, on a GPU two in one worker, so that it never waits for the next photo.

import { Detector } from './detector.js';
import { HOST } from './host.js';
import { cacheStorage } from './download.js';

/** @import {AnomalyMap, Description, Detection, DeviceChoice, Index, ModelEntry, Progress} from './types.js' */

/** Number of photos in a GPU's worker: one is computed, one prepared. */
const GPU_LANES = 2;

/** Memory of a worker in bytes, weights excluded: a large photo, activations, the module. */
const WORKER_BYTES = 256e6;

/** Assumed memory of the device in GiB, if the browser does not tell. */
const USUAL_MEMORY = 4;

/** One model in as many workers as are useful. */
export class Pool {
  /** @type {Detector[]} */
  #workers;
  /** Workers that can take a photo; a GPU's worker is listed twice. @type {Detector[]} */
  #free = [];
  /** Photos waiting for a worker. @type {((worker: Detector) => void)[]} */
  #waiting = [];
  /** Largest number of workers. */
  #limit = 1;
  /** Number of photos to hand over at a time. */
  lanes = 1;

  /**
   * @param {Index} index
   * @param {ModelEntry} model
   * @param {DeviceChoice} device
   * @param {(progress: Progress) => void} report
   */
  constructor(index, model, device, report) {
    this.index = index;
    this.model = model;
    this.#workers = [new Detector(index, model, device, report, HOST)];
  }

  /** @returns {Promise<Description>} */
  async open() {
    const [first] = this.#workers;
    const description = await first.open();
    const gpu = description.device.kind === 'webgpu';
    this.lanes = gpu ? GPU_LANES : affordable(description.parameters);
    this.#limit = gpu ? 1 : this.lanes;
    this.#free = Array.from({ length: gpu ? GPU_LANES : 1 }, () => first);
    return description;
  }

  /**
   * Inspects a photo as soon as a worker is free.
   * @param {File} file
   * @param {string | null} product the class whose regions are told
   * @param {(description: Description) => void} reopened called after the device was opened again
   * @returns {Promise<Detection>}
   */
  async detect(file, product, reopened) {
    const worker = this.#free.shift() ?? (await this.#next());
    try {
      // Only the first worker can change its device.
      return await worker.detect(file, product, worker === this.#workers[0] ? reopened : () => {});
    } finally {
      this.#release(worker);
    }
  }

  /**
   * Heatmap of a map, RGBA.
   * @param {Float32Array} map
   * @param {string | null} product
   */
  colours(map, product) {
    // A busy worker would answer only after its photo.
    return (this.#free[0] ?? this.#workers[0]).colours(map, product);
  }

  /**
   * Regions of a map above the pixel threshold of a class; undefined if the model has none.
   * @param {AnomalyMap} map
   * @param {[number, number, number, number]} region part of the photo that the map covers
   * @param {string | null} product
   */
  regions(map, region, product) {
    return (this.#free[0] ?? this.#workers[0]).regions(map, region, product);
  }

  /** Times the kernels of photos from now on, if the GPU supports it. */
  startProfile() {
    return this.#workers[0].startProfile();
  }

  /** Times of kernels since then. */
  kernelTimes() {
    return this.#workers[0].kernelTimes();
  }

  /** Stops at once. Pending requests fail. */
  close() {
    this.#limit = 0;
    for (const worker of this.#workers) worker.close();
    while (this.#waiting.length > 0) this.#release(this.#workers[0]);
  }

  /** @returns {Promise<Detector>} */
  #next() {
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      void this.#grow();
    });
  }

  /** @param {Detector} worker */
  #release(worker) {
    const next = this.#waiting.shift();
    if (next) next(worker);
    else this.#free.push(worker);
  }

  /** Adds a worker, for photos that still wait when it is ready. */
  async #grow() {
    if (this.#workers.length >= this.#limit) return;
    const worker = new Detector(this.index, this.model, 'wasm', () => {}, HOST);
    this.#workers.push(worker);
    try {
      await worker.open();
      this.#release(worker);
    } catch {
      // Probably out of memory: the present workers go on.
      this.#workers.splice(this.#workers.indexOf(worker), 1);
      this.#limit = this.#workers.length;
    }
  }
}

/**
 * Number of workers that memory and cores allow.
 * @param {number} parameters
 */
function affordable(parameters) {
  // If there is no cache, each worker would download the model.
  if (!cacheStorage()) return 1;
  const { deviceMemory = USUAL_MEMORY, hardwareConcurrency } = /** @type {any} */ (navigator);
  // Weights as downloaded and as f32, in half of the memory.
  const fit = Math.floor((deviceMemory * 2 ** 30) / 2 / (8 * parameters + WORKER_BYTES));
  return Math.max(1, Math.min(hardwareConcurrency, fit));
}
