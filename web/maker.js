// @ts-check
// Photos of good parts → a model, in a worker of its own.

import { recall, spawn } from './detector.js';

/** @import {DeviceChoice, GoodPhoto, Index, Made, Message, ModelEntry, Progress} from './types.js' */

/**
 * Makes a model of photos of good parts of one product. With the choice `auto` the CPU is used if there is no usable GPU.
 * @param {Index} index
 * @param {ModelEntry} source the model whose encoder is used
 * @param {DeviceChoice} device
 * @param {string} name of the product, and of the model
 * @param {File[]} photos
 * @param {(progress: Progress) => void} report
 * @returns {Promise<ModelEntry & {doubts: string[], memory: string}>}
 */
export async function makeModel(index, source, device, name, photos, report) {
  const read = await Promise.all(photos.map(async (file) => {
    const bytes = await file.arrayBuffer().catch(() => {
      throw new Error(`photo ${file.name}: cannot be read: it may be a folder, or was moved`);
    });
    return { name: file.name, bytes };
  }));
  const made = await ask(index, source, device, name, read, report).catch((error) => {
    if (device !== 'auto' || error.name !== 'DeviceError') throw error;
    return ask(index, source, 'wasm', name, read, report);
  });
  const contents = Object.fromEntries(made.files.map((file) => [file.name, file.content]));
  // The encoder's shards are those of the source.
  const shards = Object.entries(source.files).filter(([file]) => file.startsWith('encoder-'));
  return {
    id: `made-${crypto.randomUUID()}`,
    name,
    classes: [name],
    bytes: source.bytes,
    manifest: source.manifest,
    files: Object.fromEntries(shards),
    made: contents,
    doubts: made.doubts.map(({ doubt }) => doubt),
    memory: made.memory,
  };
}

/**
 * @param {Index} index
 * @param {ModelEntry} model
 * @param {DeviceChoice} device
 * @param {string} name
 * @param {GoodPhoto[]} photos
 * @param {(progress: Progress) => void} report
 * @returns {Promise<Made>}
 */
function ask(index, model, device, name, photos, report) {
  const worker = spawn();
  const answered = new Promise((resolve, reject) => {
    worker.addEventListener('message', (/** @type {MessageEvent<Message>} */ { data }) => {
      if (data.kind === 'progress') return report(data.progress);
      if (data.kind === 'answer') return resolve(data.value);
      reject(Object.assign(new Error(data.message), { name: data.name }));
    });
    worker.addEventListener('error', () => {
      reject(new Error('the detector could not be made, probably out of memory: use smaller or fewer photos'));
    });
  });
  worker.postMessage({ kind: 'make', id: 1, base: document.baseURI, index, model, device, tuning: recall(), name, photos });
  // Its memory is freed with it.
  return answered.finally(() => worker.terminate());
}
