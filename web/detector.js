// @ts-check
// A page's side of a worker: requests, answers, and recovery after the loss of a device.

import { recall, recallTimes, remember } from './kept.js';
import { LIMITS, named, unusable, within } from './limits.js';

/** @import {AnomalyMap, DeviceChoice, Description, Detection, Host, Index, KernelTime, Message, ModelEntry, Progress, Region, Source} from './types.js' */

const CRASHED = 'the detector stopped, probably out of memory: use smaller photos or close other pages';

const FAILED = 'it failed repeatedly';

/** Errors after which a photo is tried again. */
const RECOVERABLE = ['DeviceError', 'Crash', 'SharedCrash', 'Reopened'];

/** A model in a worker of its own. */
export class Detector {
  /** @type {Worker | undefined} */
  #worker;
  /** @type {Map<number, {resolve: (value: any) => void, reject: (error: Error) => void}>} */
  #waiting = new Map();
  #requests = 0;
  #closed = false;
  /** @type {Promise<Description>} */
  #opened = Promise.reject(new Error('the detector was not opened'));
  /** @type {string | null} reason for the fallback to the CPU */
  #fallback = null;
  /** Whether the module for every browser is taken. */
  #plain = false;
  /** Queue of photos that are tried again one by one, because any of them may have made the worker crash. */
  #suspects = Promise.resolve();

  /**
   * @param {Index} index
   * @param {ModelEntry} model
   * @param {DeviceChoice} device
   * @param {(progress: Progress) => void} report
   * @param {Host} host
   */
  constructor(index, model, device, report, host) {
    this.index = index;
    this.model = model;
    this.device = device;
    this.report = report;
    this.host = host;
    this.#opened.catch(() => {});
  }

  /**
   * Loads the model and opens the device. With the choice `auto` the CPU is used if there is no usable GPU; a CPU on which the module
   * with relaxed SIMD fails gets the plain one.
   * @returns {Promise<Description>}
   */
  open() {
    const open = async () => {
      for (;;) {
        try {
          return await this.#launch();
        } catch (error) {
          const { name, message } = /** @type {Error} */ (error);
          if (this.#closed || name !== 'DeviceError' || !this.#nextWay(message)) throw error;
        }
      }
    };
    this.#opened = open();
    return this.#opened;
  }

  /**
   * Whether there is another device or module to try.
   * @param {string} reason why the last one cannot be used
   */
  #nextWay(reason) {
    if (this.device === 'auto') {
      this.#leaveGpu(reason);
      return true;
    }
    if (this.device === 'webgpu' || this.#plain || !this.index.modules.relaxed) return false;
    this.#plain = true;
    return true;
  }

  /** Starts a new worker, and frees the memory of the previous one. */
  async #launch() {
    this.#worker?.terminate();
    this.#worker = undefined;
    this.#abandon(named('Reopened', 'the detector was opened again'));
    const worker = await this.host.start();
    if (this.#closed) worker.terminate();
    worker.addEventListener('message', (event) => this.#hear(event.data));
    // A trap during inspection.
    worker.addEventListener('error', () => {
      this.#abandon(named(this.#waiting.size > 1 ? 'SharedCrash' : 'Crash', CRASHED));
    });
    this.#worker = worker;
    const { index, model, device } = this;
    const { base } = this.host;
    const request = { kind: 'open', base, index, model, device, plain: this.#plain, tuning: recall(), times: recallTimes() };
    /** @type {Description} */
    const description = await this.#ask(request);
    remember(description.device.tuning);
    description.device.fallback = this.#fallback;
    return description;
  }

  /** @param {string} reason */
  #leaveGpu(reason) {
    this.device = 'wasm';
    this.#fallback = reason.replace(/^webgpu: /, '').replace(/: try again, or choose the processor$/, '');
  }

  /**
   * Inspects a photo. A device that fails is opened again once; if it fails again, the CPU takes over.
   * @param {Source} file
   * @param {string | null} product the class whose regions are told
   * @param {(description: Description) => void} reopened called after the device was opened again
   * @returns {Promise<Detection>}
   */
  async detect(file, product, reopened) {
    let suspected = false;
    for (let failures = 0; ; ) {
      const opened = this.#opened;
      try {
        const looked = suspected ? this.#suspects.then(() => this.#look(file, product)) : this.#look(file, product);
        if (suspected) this.#suspects = looked.then(() => {}, () => {});
        return await looked;
      } catch (error) {
        const { name, message } = /** @type {Error} */ (error);
        if (this.#closed || !RECOVERABLE.includes(name)) throw error;
        // If several photos fail together, the first one opens the device again.
        if (this.#opened === opened) reopened(await this.#recover(name === 'DeviceError' && failures > 0).catch((reason) => this.#giveUp(reason)));
        else await this.#opened;
        if (name === 'Crash' || (name === 'SharedCrash' && suspected)) throw named('Crash', `photo ${file.name}: ${message}`);
        if (failures > 1) throw error;
        if (name === 'SharedCrash') suspected = true;
        if (name === 'DeviceError') failures += 1;
      }
    }
  }

  /**
   * @param {Source} file
   * @param {string | null} product
   */
  async #look(file, product) {
    const bytes = await file.arrayBuffer().catch((error) => {
      // Our own are of the plain class.
      if (error.constructor === Error) throw error;
      throw new Error(`photo ${file.name}: cannot be read: it may be a folder, or was moved`);
    });
    // Another photo may have made the device open again.
    await this.#opened.catch(() => {});
    const answer = this.#ask({ kind: 'detect', name: file.name, bytes, pixels: file.pixels, class: product }, [bytes]);
    // The processor always comes to an end.
    if (this.device === 'wasm') return answer;
    return within(answer, LIMITS.photo, () => {
      throw unusable('the GPU did not answer');
    });
  }

  /**
   * Tells the host that no device is left.
   * @param {Error} reason
   * @returns {never}
   */
  #giveUp(reason) {
    if (!this.#closed) this.host.lost(reason);
    throw reason;
  }

  /** @param {boolean} again whether the device failed before */
  async #recover(again) {
    if (again) this.#leaveGpu(FAILED);
    return this.open().catch((reason) => {
      if (this.#closed || this.device === 'wasm') throw reason;
      // The device is gone for good.
      this.#leaveGpu(FAILED);
      return this.open();
    });
  }

  /**
   * Heatmap of a map, RGBA.
   * @param {Float32Array} map
   * @param {string | null} product
   * @returns {Promise<Uint8Array<ArrayBuffer>>}
   */
  colours(map, product) {
    return this.#ask({ kind: 'colours', map, class: product });
  }

  /**
   * Regions of a map above the pixel threshold of a class; undefined if the model has none.
   * @param {AnomalyMap} map
   * @param {[number, number, number, number]} region part of the photo that the map covers
   * @param {string | null} product
   * @returns {Promise<Region[] | undefined>}
   */
  regions(map, region, product) {
    return this.#ask({ kind: 'regions', map, region, class: product });
  }

  /** Times the kernels of photos from now on. @returns {Promise<void>} */
  startProfile() {
    return this.#ask({ kind: 'profile' });
  }

  /** @returns {Promise<KernelTime[]>} */
  kernelTimes() {
    return this.#ask({ kind: 'kernels' });
  }

  /** Stops at once. Pending requests fail. */
  close() {
    this.#closed = true;
    this.#worker?.terminate();
    this.#abandon(named('Closed', 'the detector was closed'));
  }

  /**
   * @param {{kind: string, [key: string]: any}} request
   * @param {Transferable[]} transfer
   * @returns {Promise<any>}
   */
  #ask(request, transfer = []) {
    return new Promise((resolve, reject) => {
      if (this.#closed) return reject(named('Closed', 'the detector was closed'));
      if (!this.#worker) return reject(named('Reopened', 'the detector is not open'));
      this.#requests += 1;
      this.#waiting.set(this.#requests, { resolve, reject });
      this.#worker.postMessage({ ...request, id: this.#requests }, transfer);
    });
  }

  /** @param {Message} message */
  #hear(message) {
    if (message.kind === 'progress') return this.report(message.progress);
    const waiting = this.#waiting.get(message.id);
    this.#waiting.delete(message.id);
    if (message.kind === 'answer') waiting?.resolve(message.value);
    else waiting?.reject(named(message.name, message.name === 'Crash' ? CRASHED : message.message));
  }

  /** @param {Error} error */
  #abandon(error) {
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const { reject } of waiting) reject(error);
  }
}
