// @ts-check
// Several photos at a time: on the processor in a worker each, on a GPU two, so that it never waits for the next one.

import { Detector } from './detector.js';

/** @import {Description, Detection, DeviceChoice, Index, ModelEntry, Progress} from './types.js' */

/** Photos in a GPU's worker: one computes, one is prepared. */
const GPU_LANES = 2;

/** A worker's memory besides the weights, in bytes: a large photo, activations, the module. */
const WORKER_BYTES = 256e6;

/** The device's memory in GiB, where the browser does not tell. */
const USUAL_MEMORY = 4;

/** One model in as many workers as are worth having. */
export class Pool {
  /** @type {Detector[]} */
  #workers;
  /** Who can take a photo; a GPU's worker is in it more than once. @type {Detector[]} */
  #free = [];
  /** Photos that wait for a worker. @type {((worker: Detector) => void)[]} */
  #waiting = [];
  /** How many workers to have. */
  #limit = 1;
  /** How many photos are worth handing over at a time. */
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
    this.#workers = [new Detector(index, model, device, report)];
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
   * Looks at a photo as soon as a worker is free.
   * @param {File} file
   * @param {string | null} product whose threshold the heatmap's colours go by
   * @param {(description: Description) => void} reopened called where the device was opened again
   * @returns {Promise<Detection>}
   */
  async detect(file, product, reopened) {
    const worker = this.#free.shift() ?? (await this.#next());
    try {
      // What further workers compute on is known.
      return await worker.detect(file, product, worker === this.#workers[0] ? reopened : () => {});
    } finally {
      this.#release(worker);
    }
  }

  /**
   * A map in colours, RGBA.
   * @param {Float32Array} map
   * @param {string | null} product
   */
  colours(map, product) {
    // One that looks at a photo would answer only afterwards.
    return (this.#free[0] ?? this.#workers[0]).colours(map, product);
  }

  /** Times the kernels of photos from now on, on a GPU that has a clock. */
  startProfile() {
    return this.#workers[0].startProfile();
  }

  /** What kernels took since. */
  kernelTimes() {
    return this.#workers[0].kernelTimes();
  }

  /** Stops at once; whoever waits for an answer is refused. */
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

  /** One worker more, ready for those that wait then. */
  async #grow() {
    if (this.#workers.length >= this.#limit) return;
    const worker = new Detector(this.index, this.model, 'wasm', () => {});
    this.#workers.push(worker);
    try {
      await worker.open();
      this.#release(worker);
    } catch {
      // No memory for it, most likely: those that are there go on.
      this.#workers.splice(this.#workers.indexOf(worker), 1);
      this.#limit = this.#workers.length;
    }
  }
}

/**
 * How many workers there is memory for, and a core each.
 * @param {number} parameters
 */
function affordable(parameters) {
  // Without a cache each worker would download the model.
  if (!globalThis.caches) return 1;
  const { deviceMemory = USUAL_MEMORY, hardwareConcurrency } = /** @type {any} */ (navigator);
  // Weights as they come and as f32, in half of the memory.
  const fit = Math.floor((deviceMemory * 2 ** 30) / 2 / (8 * parameters + WORKER_BYTES));
  return Math.max(1, Math.min(hardwareConcurrency, fit));
}
