// @ts-check
// What arrived, told apart: photos, models, archives of either, and what is neither.

import { isArchive, unpack } from './archive.js';
import { sentence } from './dom.js';
import { isPhotoName, readable } from './formats.js';
import { manifestIn, openModel } from './model-zip.js';

export { noteOn } from './formats.js';

/** @import {ModelEntry} from './types.js' */
/** @import {Arrived} from './folders.js' */
/** @import {Packed} from './archive.js' */

/** Photos that are handed on at a time, so that the first are inspected while the others are looked at. */
const AT_ONCE = 100;

/**
 * @typedef {object} Sorted
 * @property {File[]} photos
 * @property {ModelEntry[]} models
 * @property {{name: string, why: string}[]} refused
 * @property {number} leftOut files in folders and archives that are no photos, or photos beside a model
 */

/**
 * Sorts files out, some at a time, in their order.
 * @param {Arrived[]} arrived
 * @returns {AsyncGenerator<Sorted>}
 */
export async function* sortOut(arrived) {
  const inFolders = arrived.filter(({ inFolder }) => inFolder);
  const packed = inFolders.map(({ file, path }) => ({ path, bytes: file.size, read: async () => file }));
  const manifest = manifestIn(packed);
  if (manifest) yield modelOf(folderOf(manifest.path), packed, manifest);
  /** @type {File[]} */
  const plain = [];
  for (const { file } of arrived.filter(({ inFolder }) => !inFolder)) {
    if (!(await startsAsArchive(file))) {
      plain.push(file);
      continue;
    }
    yield* photosOf(plain.splice(0).map(itself), 0);
    yield* fromArchive(file);
  }
  const photos = manifest ? [] : inFolders.filter(({ path }) => isPhotoName(path)).map(({ file }) => file);
  const others = manifest ? 0 : inFolders.length - photos.length;
  yield* photosOf([...plain, ...photos].map(itself), others);
}

/** @param {File} file */
const itself = (file) => ({ path: file.name, read: async () => file });

/** @param {File} file */
async function startsAsArchive(file) {
  const head = await file.slice(0, 4).arrayBuffer().catch(() => new ArrayBuffer(0));
  return isArchive(new Uint8Array(head));
}

/**
 * A model, or photos.
 * @param {File} archive
 * @returns {AsyncGenerator<Sorted>}
 */
async function* fromArchive(archive) {
  try {
    const files = await unpack(archive);
    const manifest = manifestIn(files);
    if (manifest) return yield modelOf(archive.name, files, manifest);
    const photos = files.filter(({ path }) => isPhotoName(path));
    if (photos.length === 0) throw new Error(`${archive.name} holds neither photos nor a model`);
    yield* photosOf(photos, files.length - photos.length);
  } catch (error) {
    yield refusal(archive.name, error);
  }
}

/**
 * @param {string} name of the archive or folder
 * @param {Packed[]} files
 * @param {Packed} manifest
 * @returns {Promise<Sorted>}
 */
async function modelOf(name, files, manifest) {
  try {
    const model = await openModel(name, files, manifest);
    return { photos: [], models: [model], refused: [], leftOut: files.filter(({ path }) => isPhotoName(path)).length };
  } catch (error) {
    return refusal(name, error);
  }
}

/**
 * @param {{path: string, read: () => Promise<Blob>}[]} files
 * @param {number} others number of files that are no photos
 * @returns {AsyncGenerator<Sorted>}
 */
async function* photosOf(files, others) {
  for (let first = 0; first < files.length || first === 0; first += AT_ONCE) {
    /** @type {Sorted} */
    const sorted = { photos: [], models: [], refused: [], leftOut: first === 0 ? others : 0 };
    for (const { path, read } of files.slice(first, first + AT_ONCE)) {
      try {
        const content = await read();
        const file = content instanceof File ? content : new File([content], path);
        sorted.photos.push(await readable(file));
      } catch (error) {
        sorted.refused.push({ name: path, why: sentence(error) });
      }
    }
    yield sorted;
  }
}

/**
 * @param {string} name
 * @param {unknown} error
 * @returns {Sorted}
 */
function refusal(name, error) {
  return { photos: [], models: [], refused: [{ name, why: sentence(error) }], leftOut: 0 };
}

/** @param {string} path */
function folderOf(path) {
  return path.split('/').at(-2) ?? path;
}
