// @ts-check
// Models that were made here or came as a zip: kept on this device until the visitor forgets them.

import { all, get, ids, put, remove } from './store.js';

/** @import {ModelEntry} from './types.js' */

/** @typedef {{name: string, photos: File[]}} GoodPhotos photos of good parts of a product */

/** Models on one encoder share its files, whose names tell their content. @param {string} name */
const isShared = (name) => name.startsWith('encoder-');

/** Key of the last chosen one in the local storage. */
const LAST = `dinomaly-model ${new URL('.', document.baseURI).href}`;

/**
 * All kept models whose files are complete.
 * @returns {Promise<ModelEntry[]>}
 */
export async function keptModels() {
  /** @type {{shared: string[], model: ModelEntry}[]} */
  const kept = await all('models');
  if (kept.length === 0) return [];
  const shards = new Map((await all('shards')).map(({ id, content }) => [id, content]));
  return kept.filter(({ shared }) => shared.every((name) => shards.has(name))).map(({ model, shared }) => {
    const encoder = Object.fromEntries(shared.map((name) => [name, shards.get(name)]));
    return { ...model, made: { ...model.made, ...encoder } };
  });
}

/**
 * Keeps a model.
 * @param {ModelEntry} model
 */
export async function keepModel(model) {
  const files = Object.entries(model.made ?? {});
  const there = new Set(await ids('shards'));
  const shared = files.filter(([name]) => isShared(name));
  const missing = shared.filter(([name]) => !there.has(name));
  await put('shards', ...missing.map(([id, content]) => ({ id, content })));
  const made = Object.fromEntries(files.filter(([name]) => !isShared(name)));
  const entry = { id: model.id, shared: shared.map(([name]) => name), model: { ...model, made } };
  await put('models', entry);
}

/**
 * Forgets a model, its photos of good parts, and the files that no other model needs.
 * @param {string} id
 */
export async function forgetModel(id) {
  await remove('models', id);
  await remove('good', id);
  const needed = new Set((await all('models')).flatMap(({ shared }) => shared));
  const unneeded = (await ids('shards')).filter((name) => !needed.has(name));
  await remove('shards', ...unneeded.map(String));
}

/**
 * The photos of good parts that a model was made of, if the visitor agreed to keep them.
 * @param {string} id of the model
 * @returns {Promise<GoodPhotos[] | undefined>}
 */
export async function goodPhotosOf(id) {
  return (await get('good', id))?.products;
}

/**
 * Keeps the photos that a model was made of, or with none removes them.
 * @param {string} id of the model
 * @param {GoodPhotos[] | undefined} products
 */
export async function keepGoodPhotos(id, products) {
  const kept = { id, products };
  await (products ? put('good', kept) : remove('good', id));
}

/** Id of the kept model that was chosen last. */
export function lastChosen() {
  try {
    return localStorage.getItem(LAST);
  } catch {
    // The browser may forbid storage.
    return null;
  }
}

/** @param {string | null} id of a kept model; null for one of the site */
export function rememberChosen(id) {
  try {
    if (id) localStorage.setItem(LAST, id);
    else localStorage.removeItem(LAST);
  } catch {
    // The next visit begins with the site's first model.
  }
}
