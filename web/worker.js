// @ts-check
/// <reference lib="webworker" />
// Owns the detector: one worker, one model, one device. Its memory goes with it when another model is chosen.

import { Store, obtain } from './download.js';
import { moduleFor } from './modules.js';

/** @import {Description, DeviceChoice, Index, Message, ModelEntry, Request} from './types.js' */
/** @import {Detector} from './wasm/cpu.js' */

/** Downloads at a time. */
const PARALLEL = 4;

/** @type {Detector | undefined} */
let detector;

// Photos are not kept apart: while a GPU computes one, the next is decoded. On the processor each runs to its end.
self.addEventListener('message', (/** @type {MessageEvent<Request>} */ event) => void answer(event.data));

/** @param {Request} request */
async function answer(request) {
  try {
    const value = await perform(request);
    say({ kind: 'answer', id: request.id, value }, transferable(value));
  } catch (error) {
    const { name, message } = error instanceof Error ? error : new Error(String(error));
    // A trap, such as memory that ran out, leaves the module in no state to go on.
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
  // As after a device was lost: whoever asks opens the model again.
  if (!detector) throw unusable('no model is open');
  if (request.kind === 'detect') return detector.detect(request.name, new Uint8Array(request.bytes));
  return detector.colours(request.map, request.class ?? undefined);
}

/** Refuses where no GPU is worth using, before anything is fetched for one. */
async function demandRealGpu() {
  const { gpu } = /** @type {any} */ (navigator);
  const adapter = await gpu?.requestAdapter({ powerPreference: 'high-performance' }).catch(() => null);
  if (!adapter) throw unusable('no GPU was found: this browser has no WebGPU, or it is switched off');
  if (adapter.info?.isFallbackAdapter) {
    throw unusable('the browser only emulates a GPU, which is slower than the processor itself');
  }
}

/**
 * Fetches the device's module and the model, whatever of them the browser does not have yet, and starts it.
 * @param {{base: string, index: Index, model: ModelEntry, device: DeviceChoice}} request
 * @returns {Promise<Description>}
 */
async function load({ base, index, model, device }) {
  const url = (/** @type {string} */ path) => new URL(path, base).href;
  const half = moduleFor(device, index.modules);
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
      throw new Error('the detector could not be fetched: check the connection and load the page again');
    });
    await obtain(store, url(half.wasm), 'the detector', grew, async (bytes) => {
      const fetched = performance.now();
      await glue.default({ module_or_path: bytes });
      compile = performance.now() - fetched;
    });
    return /** @type {typeof import('./wasm/cpu.js')} */ (glue);
  };
  const [{ Detector, openDevice }, manifest] = await Promise.all([
    module(),
    obtain(store, url(model.manifest), 'manifest.json', () => {}, (bytes) => (JSON.parse(new TextDecoder().decode(bytes)), bytes)),
  ]);
  const opened = new Detector(manifest);
  const files = opened.files();
  const lane = async () => {
    for (let file = files.shift(); file; file = files.shift()) {
      const { name } = file;
      const path = model.files[name];
      if (!path) throw new Error(`model file ${name}: models.json does not list it, the site must be written again`);
      await obtain(store, url(path), `model file ${name}`, grew, (bytes) => opened.add(name, bytes));
    }
  };
  // The device is opened while the weights arrive.
  const [opening] = await Promise.all([openDevice(), ...Array.from({ length: PARALLEL }, lane)]);
  const download = performance.now() - began;
  const modules = Object.values(index.modules).map(({ wasm }) => wasm);
  const needed = index.models.flatMap(({ files, manifest }) => [manifest, ...Object.values(files)]);
  await store.retain(url('.'), new Set([...modules, ...needed].map(url)));
  say({ kind: 'progress', progress: { phase: 'prepare', loaded: total, total } });
  const description = await opened.start(opening);
  detector = opened;
  Object.assign(description.timings, { download, compile });
  return description;
}

/**
 * A refusal after which another device may do better.
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
 * What of an answer can be handed over instead of copied.
 * @param {any} value
 * @returns {Transferable[]}
 */
function transferable(value) {
  const parts = [value, value?.map, value?.preview];
  return parts.filter((part) => ArrayBuffer.isView(part)).map((part) => part.buffer);
}
