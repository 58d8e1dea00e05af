// @ts-check
// A zip of a published model's folder ↔ a model for this page.

import { pack } from './archive.js';
import { identityOf, sha256 } from './hash.js';
import { parse } from './site.js';

/** @import {ModelEntry} from './types.js' */
/** @import {Packed} from './archive.js' */

const MANIFEST = 'manifest.json';

/** Largest manifest in bytes: others list at most some hundred files. */
const LARGEST_MANIFEST = 1e6;

/**
 * The manifest among an archive's files, the one in the outermost folder; undefined if it holds no model. Other folders may have a file of
 * this name, but not beside the model's configuration.
 * @param {Packed[]} files
 */
export function manifestIn(files) {
  const paths = new Set(files.map(({ path }) => path));
  const depth = (/** @type {Packed} */ { path }) => path.split('/').length;
  const manifests = files.filter(({ path }) => path.split('/').at(-1) === MANIFEST && paths.has(`${path.slice(0, -MANIFEST.length)}config.json`));
  return manifests.sort((a, b) => depth(a) - depth(b))[0];
}

/**
 * The model in an archive. Files that its manifest does not list are left out.
 * @param {string} archive name of the archive
 * @param {Packed[]} files
 * @param {Packed} manifest
 * @returns {Promise<ModelEntry>}
 * @throws one sentence, if it is no model, or a file is missing or altered
 */
export async function openModel(archive, files, manifest) {
  const refuse = (/** @type {string} */ why) => new Error(`${archive} is no model: ${why}`);
  if (manifest.bytes > LARGEST_MANIFEST) throw refuse(`its ${MANIFEST} is too large`);
  const folder = manifest.path.slice(0, -MANIFEST.length);
  const listed = await manifest.read();
  const { name, classes, files: entries } = read(await listed.text(), refuse);
  /** @type {Record<string, Blob>} */
  const made = { [MANIFEST]: listed };
  for (const entry of entries) {
    const packed = files.find(({ path }) => path === folder + entry.name);
    if (!packed) throw refuse(`${entry.name} is missing: save or pack the whole folder again`);
    if (packed.bytes !== entry.bytes) throw refuse(`${entry.name} has another size than it should: save or pack it again`);
    const content = await packed.read();
    const found = await sha256(content);
    // Models share files of encoders by their names.
    const named = !entry.name.endsWith('.safetensors') || entry.name.split('-')[1] === entry.sha256.slice(0, 16);
    if (!named || (found && found !== entry.sha256)) throw refuse(`${entry.name} was altered: save or pack it again`);
    made[entry.name] = content;
  }
  const id = await identityOf(listed);
  const bytes = entries.reduce((sum, entry) => sum + entry.bytes, 0);
  return { id: `opened-${id}`, name, classes, bytes, manifest: '', files: {}, made, origin: 'file' };
}

/**
 * What the page uses of a manifest; the detector checks the rest of it.
 * @param {string} text
 * @param {(why: string) => Error} refuse
 * @returns {{name: string, classes: string[], files: {name: string, bytes: number, sha256: string}[]}}
 */
function read(text, refuse) {
  /** @type {any} */
  let manifest;
  try {
    manifest = parse(MANIFEST, text);
  } catch {
    throw refuse(`its ${MANIFEST} cannot be read`);
  }
  const { name, classes, files } = manifest ?? {};
  const texts = (/** @type {unknown[]} */ ...values) => values.every((value) => typeof value === 'string');
  const whole = texts(name) && Array.isArray(classes) && texts(...classes) && Array.isArray(files) &&
    files.every((file) => texts(file?.name, file?.sha256) && Number.isSafeInteger(file?.bytes));
  if (!whole) throw refuse(`its ${MANIFEST} is of another kind`);
  return { name, classes, files };
}

/**
 * A zip of the model's folder, which `dinomaly detect` and the other commands read once it is unpacked, and this page as it is.
 * @param {ModelEntry} model one that holds its files
 * @returns {Promise<File>}
 */
export async function packModel(model) {
  const folder = model.name.replace(/[^\p{L}\p{N} _-]/gu, '_');
  const files = Object.entries(model.made ?? {}).map(([name, content]) => ({ name: `${folder}/${name}`, content }));
  return new File([await pack(files)], `${folder}.zip`);
}
