// @ts-check
// A model that was made here → a zip of its folder, which `dinomaly detect` and the other commands read once it is unpacked.

import { Store, obtain } from './download.js';

/** @import {ModelEntry} from './types.js' */

/**
 * Offers a made model as a download.
 * @param {ModelEntry} model
 */
export async function saveModel(model) {
  // Few visitors need it.
  const { downloadZip } = await import('./client-zip.js');
  const store = await Store.open();
  const shard = async (/** @type {[string, string]} */ [name, path]) => {
    const input = await obtain(store, new URL(path, document.baseURI).href, `model file ${name}`, () => {}, (bytes) => bytes);
    return { name, input };
  };
  const made = Object.entries(model.made ?? {}).map(([name, input]) => ({ name, input }));
  const files = [...made, ...(await Promise.all(Object.entries(model.files).map(shard)))];
  const folder = model.name.replace(/[^\p{L}\p{N} _-]/gu, '_');
  const zip = await downloadZip(files.map(({ name, input }) => ({ name: `${folder}/${name}`, input }))).blob();
  const link = document.createElement('a');
  link.href = URL.createObjectURL(zip);
  link.download = `${folder}.zip`;
  link.click();
  // Not at once: the browser reads it after this.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
