// @ts-check
/// <reference lib="webworker" />
// Owns the detector: one worker, one model. Its memory goes with it when another model is chosen.

import initialise, { Detector } from './wasm/dinomaly.js';
import { Store, fetchBytes, fetchModule } from './download.js';

/** @import {Index, Message, ModelEntry, Request} from './types.js' */

/** Downloads at a time. */
const PARALLEL = 4;

/** @type {Detector | undefined} */
let detector;

/** One request after the other: the detector is busy while it looks at a photo. */
let queue = Promise.resolve();

self.addEventListener('message', (/** @type {MessageEvent<Request>} */ event) => {
  queue = queue.then(() => answer(event.data));
});

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
    detector = await load(request);
    const description = await detector.start(request.device);
    return description;
  }
  // As after a device was lost: whoever asks opens the model again.
  if (!detector) throw Object.assign(new Error('no model is open'), { name: 'DeviceError' });
  if (request.kind === 'detect') return detector.detect(request.name, new Uint8Array(request.bytes));
  return detector.colours(request.map, request.class ?? undefined);
}

/**
 * Fetches the module and the model, whatever of it the browser does not have yet.
 * @param {{base: string, index: Index, model: ModelEntry}} request
 */
async function load({ base, index, model }) {
  const url = (/** @type {string} */ path) => new URL(path, base).href;
  const total = index.module_bytes + model.bytes;
  let loaded = 0;
  const grew = (/** @type {number} */ bytes) => {
    loaded += bytes;
    say({ kind: 'progress', progress: { phase: 'download', loaded: Math.min(loaded, total), total } });
  };

  const [store, manifest] = await Promise.all([
    Store.open(),
    fetchBytes(url(model.manifest), 'manifest.json', () => {}),
    initialise({ module_or_path: fetchModule(url('wasm/dinomaly_bg.wasm'), grew) }),
  ]);
  const opened = new Detector(manifest);

  /** @param {{name: string}} file */
  const obtain = async ({ name }) => {
    const path = model.files[name];
    if (!path) throw new Error(`model file ${name}: models.json does not list it, the site must be written again`);
    const cached = await store.get(url(path));
    if (cached) {
      try {
        opened.add(name, cached);
        return grew(cached.length);
      } catch {
        // Damaged in the cache: fetched again below.
      }
    }
    const bytes = await fetchBytes(url(path), `model file ${name}`, grew);
    opened.add(name, bytes);
    await store.put(url(path), bytes);
  };
  const files = opened.files();
  const lanes = Array.from({ length: PARALLEL }, async () => {
    for (let file = files.shift(); file; file = files.shift()) await obtain(file);
  });
  await Promise.all(lanes);
  await store.retain(url('.'), new Set(index.models.flatMap((each) => Object.values(each.files).map(url))));
  say({ kind: 'progress', progress: { phase: 'prepare', loaded: total, total } });
  return opened;
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
