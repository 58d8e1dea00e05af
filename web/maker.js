// @ts-check
// Photos of good parts → a model, in a worker of its own.

import { Store, obtain } from './download.js';
import { identityOf } from './hash.js';
import { HOST } from './host.js';
import { recall } from './kept.js';

/** @import {DeviceChoice, EncoderEntry, GoodPhoto, Index, Made, Message, ModelEntry, Progress} from './types.js' */
/** @import {GoodPhotos} from './kept-models.js' */

/**
 * Makes a model of photos of good parts. With the choice `auto` the CPU is used if there is no usable GPU.
 * @param {Index} index
 * @param {EncoderEntry} source what has the encoder: an encoder, or a model
 * @param {DeviceChoice} device
 * @param {GoodPhotos[]} products
 * @param {(progress: Progress) => void} report
 * @returns {Promise<ModelEntry & {doubts: {product: string, doubt: string}[], memory: string}>}
 */
export async function makeModel(index, source, device, products, report) {
  const name = products.map(({ name }) => name).join(', ');
  const photos = products.flatMap(({ name, photos }) => photos.map((file) => ({ file, product: name })));
  const made = await ask(index, source, device, name, photos, report).catch((error) => {
    if (device !== 'auto' || error.name !== 'DeviceError') throw error;
    return ask(index, source, 'wasm', name, photos, report);
  });
  const files = Object.fromEntries(made.files.map(({ name, content }) => [name, new Blob([content])]));
  return {
    id: `made-${await identityOf(files['manifest.json'])}`,
    name,
    classes: products.map(({ name }) => name).sort(),
    bytes: source.bytes,
    manifest: '',
    files: {},
    made: { ...files, ...(await encoderOf(source)) },
    origin: 'here',
    doubts: made.doubts,
    memory: made.memory,
  };
}

/**
 * The encoder's files, so that the model stays whole whatever the site offers later.
 * @param {EncoderEntry} source
 */
async function encoderOf({ files, made = {} }) {
  const store = await Store.open();
  const fetched = Object.entries(files).filter(([name]) => name.startsWith('encoder-')).map(async ([name, path]) => {
    const content = await obtain(store, new URL(path, document.baseURI).href, `model file ${name}`, () => {}, (bytes) => new Blob([bytes]));
    return /** @type {[string, Blob]} */ ([name, content]);
  });
  const own = Object.entries(made).filter(([name]) => name.startsWith('encoder-'));
  return Object.fromEntries([...own, ...(await Promise.all(fetched))]);
}

/**
 * @param {Index} index
 * @param {EncoderEntry} model
 * @param {DeviceChoice} device
 * @param {string} name
 * @param {GoodPhoto[]} photos
 * @param {(progress: Progress) => void} report
 * @returns {Promise<Made>}
 */
async function ask(index, model, device, name, photos, report) {
  const worker = await HOST.start();
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
