// @ts-check
// The page's side of the worker: requests, answers, and going on after a device was lost.

/** @import {DeviceChoice, Description, Detection, Index, KernelTime, Message, ModelEntry, Progress} from './types.js' */

const CRASHED = 'the detector stopped, most likely because memory ran out: use smaller photos or close other pages';

/** Where a GPU's tuning is kept. */
const TUNING = 'dinomaly-gpu';

/** Refusals after which a photo is looked at again. */
const RECOVERABLE = ['DeviceError', 'Crash', 'SharedCrash', 'Reopened'];

/** A model that is being loaded or runs, in a worker of its own. */
export class Detector {
  /** @type {Worker | undefined} */
  #worker;
  /** @type {Map<number, {resolve: (value: any) => void, reject: (error: Error) => void}>} */
  #waiting = new Map();
  #requests = 0;
  #closed = false;
  /** @type {Promise<Description>} */
  #opened = Promise.reject(new Error('the detector was not opened'));
  /** @type {string | null} why the processor had to be taken */
  #fallback = null;
  /** Photos that are tried again one after the other, because nobody knows which of them made the worker crash. */
  #suspects = Promise.resolve();

  /**
   * @param {Index} index
   * @param {ModelEntry} model
   * @param {DeviceChoice} device
   * @param {(progress: Progress) => void} report
   */
  constructor(index, model, device, report) {
    this.index = index;
    this.model = model;
    this.device = device;
    this.report = report;
    this.#opened.catch(() => {});
  }

  /**
   * Loads the model and opens the device; where no GPU can be had and none is asked for, the processor.
   * @returns {Promise<Description>}
   */
  open() {
    const open = async () => {
      try {
        return await this.#launch();
      } catch (error) {
        const { name, message } = /** @type {Error} */ (error);
        if (this.#closed || this.device !== 'auto' || name !== 'DeviceError') throw error;
        this.#leaveGpu(message);
        return this.#launch();
      }
    };
    this.#opened = open();
    return this.#opened;
  }

  /** A fresh worker: what the one before held is free. */
  async #launch() {
    this.#worker?.terminate();
    this.#abandon(named('Reopened', 'the detector was opened again'));
    const worker = spawn();
    let started = false;
    worker.addEventListener('message', (event) => {
      started = true;
      this.#hear(event.data);
    });
    // A trap while a photo is looked at comes here; so does a script that cannot be loaded.
    worker.addEventListener('error', () => {
      if (!started) return this.#abandon(named('Crash', 'the detector could not be started: load the page again'));
      this.#abandon(named(this.#waiting.size > 1 ? 'SharedCrash' : 'Crash', CRASHED));
    });
    this.#worker = worker;
    const { index, model, device } = this;
    /** @type {Description} */
    const description = await this.#ask({ kind: 'open', base: document.baseURI, index, model, device, tuning: recall() });
    remember(description.device.tuning);
    description.device.fallback = this.#fallback;
    return description;
  }

  /** @param {string} reason */
  #leaveGpu(reason) {
    this.device = 'wasm';
    this.#fallback = reason.replace(/^webgpu: /, '');
  }

  /**
   * Looks at a photo. A device that fails is opened again, once; if it fails again, the processor takes over.
   * @param {File} file
   * @param {string | null} product whose threshold the heatmap's colours go by
   * @param {(description: Description) => void} reopened called where the device was opened again
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
        // Of photos that fail together the first one opens the device again.
        if (this.#opened === opened) reopened(await this.#recover(name === 'DeviceError' && failures > 0, message));
        else await this.#opened;
        if (name === 'Crash' || (name === 'SharedCrash' && suspected)) throw named('Crash', `photo ${file.name}: ${message}`);
        if (failures > 1) throw error;
        if (name === 'SharedCrash') suspected = true;
        if (name === 'DeviceError') failures += 1;
      }
    }
  }

  /**
   * @param {File} file
   * @param {string | null} product
   */
  async #look(file, product) {
    const bytes = await file.arrayBuffer().catch(() => {
      throw new Error(`photo ${file.name}: cannot be read, it may be a folder or was moved`);
    });
    return this.#ask({ kind: 'detect', name: file.name, bytes, class: product }, [bytes]);
  }

  /**
   * @param {boolean} again whether the device failed before
   * @param {string} message what it said
   */
  async #recover(again, message) {
    if (again) this.#leaveGpu(`it failed again and again (${message})`);
    return this.open().catch((reason) => {
      if (this.#closed || this.device === 'wasm') throw reason;
      // The device is gone for good.
      this.#leaveGpu(`it failed again and again (${message})`);
      return this.open();
    });
  }

  /**
   * A map in colours, RGBA.
   * @param {Float32Array} map
   * @param {string | null} product
   * @returns {Promise<Uint8Array<ArrayBuffer>>}
   */
  colours(map, product) {
    return this.#ask({ kind: 'colours', map, class: product });
  }

  /** Times the kernels of photos from now on. @returns {Promise<void>} */
  startProfile() {
    return this.#ask({ kind: 'profile' });
  }

  /** @returns {Promise<KernelTime[]>} */
  kernelTimes() {
    return this.#ask({ kind: 'kernels' });
  }

  /** Stops at once; whoever waits for an answer is refused. */
  close() {
    this.#closed = true;
    this.#worker?.terminate();
    this.#abandon(named('Closed', 'another model was chosen'));
  }

  /**
   * @param {{kind: string, [key: string]: any}} request
   * @param {Transferable[]} transfer
   * @returns {Promise<any>}
   */
  #ask(request, transfer = []) {
    return new Promise((resolve, reject) => {
      if (this.#closed) return reject(named('Closed', 'another model was chosen'));
      this.#requests += 1;
      this.#waiting.set(this.#requests, { resolve, reject });
      this.#worker?.postMessage({ ...request, id: this.#requests }, transfer);
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

/** What was found out about this browser's GPU on an earlier visit. */
function recall() {
  try {
    return localStorage.getItem(TUNING);
  } catch {
    // Pages may be forbidden to keep anything.
    return null;
  }
}

/** @param {string | null} tuning */
function remember(tuning) {
  try {
    if (tuning) localStorage.setItem(TUNING, tuning);
  } catch {
    // The GPU is measured again the next time.
  }
}

/**
 * A worker made from a blob inherits the page's Content-Security-Policy; one fetched from a server would have only what
 * that server sends with it, which on a static host is nothing.
 */
function spawn() {
  const script = `import ${JSON.stringify(new URL('worker.js', document.baseURI).href)};`;
  const url = URL.createObjectURL(new Blob([script], { type: 'text/javascript' }));
  const worker = new Worker(url, { type: 'module' });
  // Once it said something, the script was read.
  worker.addEventListener('message', () => URL.revokeObjectURL(url), { once: true });
  return worker;
}

/**
 * @param {string} name
 * @param {string} message
 */
function named(name, message) {
  return Object.assign(new Error(message), { name });
}
