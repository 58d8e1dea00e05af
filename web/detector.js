// @ts-check
// The page's side of the worker: requests, answers, and going on after a device was lost.

/** @import {DeviceChoice, Description, Detection, Index, Message, ModelEntry, Progress} from './types.js' */

const CRASHED = 'the detector stopped, most likely because memory ran out: use smaller photos or close other pages';

/** A model that is being loaded or runs. */
export class Detector {
  /** @type {Worker | undefined} */
  #worker;
  /** @type {Map<number, {resolve: (value: any) => void, reject: (error: Error) => void}>} */
  #waiting = new Map();
  #requests = 0;
  #closed = false;

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
  }

  /**
   * Loads the model and opens a device.
   * @returns {Promise<Description>}
   */
  open() {
    this.#worker?.terminate();
    this.#abandon(new Error('the detector was opened again'));
    const worker = spawn();
    let started = false;
    worker.addEventListener('message', (event) => {
      started = true;
      this.#hear(event.data);
    });
    // A trap while a photo is looked at comes here; so does a script that cannot be loaded.
    worker.addEventListener('error', () => {
      const message = started ? CRASHED : 'the detector could not be started: load the page again';
      this.#abandon(named('Crash', message));
    });
    this.#worker = worker;
    const { index, model, device } = this;
    return this.#ask({ kind: 'open', base: document.baseURI, index, model, device });
  }

  /**
   * Looks at a photo. A device that fails is opened again, once; if it fails again, the processor takes over.
   * @param {File} file
   * @param {(description: Description) => void} reopened called where the device was opened again
   * @returns {Promise<Detection>}
   */
  async detect(file, reopened) {
    for (let failures = 0; ; failures += 1) {
      const bytes = await file.arrayBuffer().catch(() => {
        throw new Error(`photo ${file.name}: cannot be read, it may be a folder or was moved`);
      });
      try {
        return await this.#ask({ kind: 'detect', name: file.name, bytes }, [bytes]);
      } catch (error) {
        const { name, message } = /** @type {Error} */ (error);
        if (this.#closed || (name !== 'DeviceError' && name !== 'Crash')) throw error;
        if (name === 'DeviceError' && failures > 0) this.device = 'wasm';
        const description = await this.open().catch((reason) => {
          if (this.#closed || this.device === 'wasm') throw reason;
          // The device is gone for good.
          failures += 1;
          this.device = 'wasm';
          return this.open();
        });
        if (name === 'DeviceError' && failures > 0) description.device.fallback = `it failed again and again (${message})`;
        reopened(description);
        if (name === 'Crash') throw named(name, `photo ${file.name}: ${message}`);
        if (failures > 1) throw error;
      }
    }
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
