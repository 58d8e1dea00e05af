// @ts-check
/// <reference lib="webworker" />
// Worker of the detector: one model on one device. Its memory is freed with it when another model is chosen.

import { Store, obtain } from './download.js';
import { moduleFor } from './modules.js';
import { parse } from './site.js';

/** @import {Description, DeviceChoice, FileListed, Index, Message, ModelEntry, Request} from './types.js' */
/** @import {Detector} from './wasm/cpu.js' */

/** Number of parallel downloads. */
const PARALLEL = 4;

/** @type {Detector | undefined} */
let detector;

// Requests overlap: while a GPU computes one photo, the next is decoded. On the CPU each runs to its end.
self.addEventListener('message', (/** @type {MessageEvent<Request>} */ event) => void answer(event.data));

/** @param {Request} request */
async function answer(request) {
  try {
    const value = await perform(request);
    say({ kind: 'answer', id: request.id, value }, transferable(value));
  } catch (error) {
    const { name, message } = error instanceof Error ? error : new Error(String(error));
    // After a trap, such as out of memory, the module cannot go on.
    const crashed = error instanceof WebAssembly.RuntimeError;
    say({ kind: 'refusal', id: request.id, name: crashed ? 'Crash' : name, message });
  }
}

/** @param {Request} request */
async function perform(request) {
  if (request.kind === 'open') {
    if (request.device === 'auto') await demandRealGpu();
    return load(request);
  }
  // As after the loss of a device, the page opens the model again.
  if (!detector) throw unusable('no model is open');
  if (request.kind === 'detect') {
    const detection = await detector.detect(request.name, new Uint8Array(request.bytes));
    // Part of the same answer, because a later request would wait for the next photo.
    const rgba = detector.colours(detection.map, request.class ?? undefined);
    return { ...detection, colours: { class: request.class, rgba } };
  }
  if (request.kind === 'profile') return detector.startProfile();
  if (request.kind === 'kernels') return detector.kernelTimes();
  return detector.colours(request.map, request.class ?? undefined);
}

/** Refuses if there is no real GPU, before anything is downloaded for one. */
async function demandRealGpu() {
  const { gpu } = /** @type {any} */ (navigator);
  const adapter = await gpu?.requestAdapter({ powerPreference: 'high-performance' }).catch(() => null);
  if (!adapter) throw unusable('no GPU was found: this browser has no WebGPU, or it is switched off');
  if (adapter.info?.isFallbackAdapter) {
    throw unusable('the browser only emulates a GPU, which is slower than the CPU itself');
  }
}

/**
 * Downloads the device's module and the model, except for cached files, and starts the model. Weights are uploaded to the device as
 * they arrive.
 * @param {{base: string, index: Index, model: ModelEntry, device: DeviceChoice, tuning: string | null}} request
 * @returns {Promise<Description>}
 */
async function load({ base, index, model, device, tuning }) {
  const url = (/** @type {string} */ path) => new URL(path, base).href;
  const half = moduleFor(device, index.modules);
  // As in `dinomaly demo` until it is built.
  if (!half) throw unusable('this site has no module for the graphics processor yet: load the page again in some minutes');
  const total = half.bytes + model.bytes;
  let loaded = 0;
  const grew = (/** @type {number} */ bytes) => {
    loaded += bytes;
    say({ kind: 'progress', progress: { phase: 'download', loaded: Math.min(loaded, total), total } });
  };

  const began = performance.now();
  const store = await Store.open();
  let compile = 0;
  const module = async () => {
    const glue = await import(url(half.glue)).catch(() => {
      throw new Error('the detector could not be downloaded: check the connection and reload the page');
    });
    await obtain(store, url(half.wasm), 'the detector', grew, async (bytes) => {
      const fetched = performance.now();
      await glue.default({ module_or_path: bytes }).catch(notAModule);
      compile = performance.now() - fetched;
    });
    return /** @type {typeof import('./wasm/cpu.js')} */ (glue);
  };
  const [{ Detector, openDevice }, manifest] = await Promise.all([
    module(),
    obtain(store, url(model.manifest), 'manifest.json', () => {}, (bytes) => (parse('manifest.json', new TextDecoder().decode(bytes)), bytes)),
  ]);
  const opened = new Detector(manifest);
  /** @type {FileListed[]} */
  const files = opened.files();
  const fetchAll = async (/** @type {FileListed[]} */ wanted, /** @type {Promise<unknown>} */ ready, /** @type {typeof grew} */ count) => {
    // Its failure is handled where it is awaited.
    ready.catch(() => {});
    const queue = [...wanted];
    const lane = async () => {
      for (let file = queue.shift(); file; file = queue.shift()) {
        const { name } = file;
        const path = model.files[name];
        if (!path) throw new Error(`model file ${name}: models.json does not list it: write the site again`);
        const content = await obtain(store, url(path), `model file ${name}`, count, (bytes) => (opened.verify(name, bytes), bytes));
        await ready;
        opened.add(name, content);
      }
    };
    await Promise.all(Array.from({ length: PARALLEL }, lane)).catch((error) => {
      // The other lanes need not go on.
      queue.length = 0;
      throw error;
    });
  };
  const weights = files.filter((file) => file.weights);
  // The device is opened while the files arrive.
  const opening = openDevice(tuning ?? undefined).then((device) => opened.useDevice(device));
  const described = fetchAll(files.filter((file) => !file.weights), Promise.resolve(), grew);
  await Promise.all([opening, described, fetchAll(weights, Promise.all([opening, described]), grew)]);
  const download = performance.now() - began;
  const modules = Object.values(index.modules).map(({ wasm }) => wasm);
  const needed = index.models.flatMap(({ files, manifest }) => [manifest, ...Object.values(files)]);
  await store.retain(url('.'), new Set([...modules, ...needed].map(url)));
  say({ kind: 'progress', progress: { phase: 'prepare', loaded: total, total } });
  /** @type {Description | undefined} */
  let description = await opened.start();
  while (!description) {
    // The next precision needs the weights again, usually from the cache.
    await fetchAll(weights, Promise.resolve(), () => {});
    description = await opened.start();
  }
  detector = opened;
  Object.assign(description.timings, { download, compile });
  return description;
}

/**
 * The module was cut off, or its two files do not belong together. Else it is for the browser to say.
 * @param {Error} error
 */
function notAModule(error) {
  const { CompileError, LinkError } = WebAssembly;
  if (![CompileError, LinkError, TypeError].some((type) => error instanceof type)) throw error;
  throw new Error('the detector was altered, or belongs to another version: load the page again, or write the site again');
}

/**
 * Error after which another device may succeed.
 * @param {string} reason
 */
function unusable(reason) {
  return Object.assign(new Error(reason), { name: 'DeviceError' });
}

/**
 * @param {Message} message
 * @param {Transferable[]} transfer
 */
function say(message, transfer = []) {
  self.postMessage(message, { transfer });
}

/**
 * Parts of an answer that can be transferred instead of copied.
 * @param {any} value
 * @returns {Transferable[]}
 */
function transferable(value) {
  const parts = [value, value?.map, value?.preview, value?.colours?.rgba];
  return parts.filter((part) => ArrayBuffer.isView(part)).map((part) => part.buffer);
}
