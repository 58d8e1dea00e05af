// @ts-check
// What a site says of itself. Another program may have written it, or a host cut it off: all that is used is checked first.

/** @import {Index} from './types.js' */

/** Version of `models.json` that is read. */
export const VERSION = 2;

const MODULES = ['cpu', 'gpu', 'relaxed'];

/**
 * Reads `models.json`.
 * @param {string} text
 * @param {string} page address of the page, in whose folder all files lie
 * @returns {Index}
 */
export function readIndex(text, page) {
  const site = new URL('.', page).href;
  const index = object(parse('models.json', text), 'it');
  if (index.version !== VERSION) {
    const version = typeof index.version === 'number' ? `version ${index.version}` : 'no version';
    throw new Error(`models.json has ${version}, but this page reads ${VERSION}: reload the page`);
  }
  // Sites of earlier versions do not say it.
  if (index.program !== undefined) string(index.program, 'program');
  const modules = object(index.modules, 'modules');
  // The others are missing in the demo until they are built.
  for (const name of MODULES.filter((name) => name === 'cpu' || modules[name] !== undefined)) {
    const module = object(modules[name], `modules.${name}`);
    path(module.glue, `modules.${name}.glue`, site);
    path(module.wasm, `modules.${name}.wasm`, site);
    size(module.bytes, `modules.${name}.bytes`);
  }
  const models = list(index.models, 'models');
  // Sites of earlier versions have none.
  const encoders = list(index.encoders ?? [], 'encoders');
  if (models.length === 0 && encoders.length === 0) {
    throw new Error('this site has no model: write it again with `dinomaly site MODEL --out SITE`');
  }
  models.forEach((value, i) => {
    const model = published(value, `models[${i}]`, site);
    list(model.classes, `models[${i}].classes`).forEach((name, k) => string(name, `models[${i}].classes[${k}]`));
  });
  encoders.forEach((value, i) => published(value, `encoders[${i}]`, site));
  list(index.samples, 'samples').forEach((value, i) => {
    const sample = object(value, `samples[${i}]`);
    string(sample.name, `samples[${i}].name`);
    if (sample.class !== null) string(sample.class, `samples[${i}].class`);
    if (!['good', 'defective', undefined].includes(/** @type {any} */ (sample.truth))) throw wrong(`samples[${i}].truth`, 'is no label');
    path(sample.path, `samples[${i}].path`, site);
  });
  // Older sites have none.
  if (index.thumbnails !== undefined) {
    const thumbnails = object(index.thumbnails, 'thumbnails');
    path(thumbnails.path, 'thumbnails.path', site);
    size(thumbnails.columns, 'thumbnails.columns');
  }
  const checked = Object.entries(modules).filter(([name]) => MODULES.includes(name));
  return /** @type {any} */ ({ ...index, encoders, modules: Object.fromEntries(checked) });
}

/**
 * What models and encoders have in common.
 * @param {unknown} value
 * @param {string} name
 * @param {string} site
 */
function published(value, name, site) {
  const entry = object(value, name);
  string(entry.id, `${name}.id`);
  string(entry.name, `${name}.name`);
  size(entry.bytes, `${name}.bytes`);
  path(entry.manifest, `${name}.manifest`, site);
  const files = object(entry.files, `${name}.files`);
  for (const [file, place] of Object.entries(files)) path(place, `${name}.files: ${file}`, site);
  return entry;
}

/**
 * The content of a JSON file of the site.
 * @param {string} name
 * @param {string} text
 * @returns {unknown}
 */
export function parse(name, text) {
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(`${name} is not JSON: it is cut off, or the server answered with another file: write the site again`);
  }
}

/**
 * @param {unknown} value
 * @param {string} name
 * @returns {Record<string, unknown>}
 */
function object(value, name) {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw wrong(name, 'is no object');
  return /** @type {Record<string, unknown>} */ (value);
}

/**
 * @param {unknown} value
 * @param {string} name
 * @returns {unknown[]}
 */
function list(value, name) {
  if (!Array.isArray(value)) throw wrong(name, 'is no list');
  return value;
}

/**
 * @param {unknown} value
 * @param {string} name
 */
function string(value, name) {
  if (typeof value !== 'string') throw wrong(name, 'is no text');
}

/**
 * @param {unknown} value
 * @param {string} name
 */
function size(value, name) {
  if (!Number.isSafeInteger(value) || Number(value) < 1) throw wrong(name, 'is no size');
}

/**
 * @param {unknown} value
 * @param {string} name
 * @param {string} site
 */
function path(value, name, site) {
  try {
    if (typeof value === 'string' && new URL(value, site).href.startsWith(site)) return;
  } catch {
    // It is no address at all.
  }
  throw wrong(name, 'is no path in this site');
}

/**
 * @param {string} name
 * @param {string} how
 */
function wrong(name, how) {
  return new Error(`models.json is damaged: ${name} ${how}: write the site again`);
}
