// @ts-check
// Download of a site's files, with progress and a cache.

import { LIMITS, named, unreachable, within } from './limits.js';

const CACHE = 'dinomaly-files';

/**
 * Takes a file from the cache, or from the site if it is missing there or damaged.
 * @template T
 * @param {Store} store
 * @param {string} url address, which changes with the content
 * @param {string} name name in error messages
 * @param {(bytes: number) => void} grew called with the size of each piece
 * @param {(content: Uint8Array<ArrayBuffer>) => T | Promise<T>} take throws if the content is wrong
 * @returns {Promise<T>}
 */
export async function obtain(store, url, name, grew, take) {
  const cached = await store.get(url);
  if (cached) {
    try {
      const taken = await take(cached);
      grew(cached.length);
      return taken;
    } catch {
      // Downloaded again below.
    }
  }
  const bytes = await fetchBytes(url, name, grew);
  const taken = await take(bytes);
  await store.put(url, bytes);
  return taken;
}

/**
 * Downloads a file and reports progress. A server that falls silent is asked a second time.
 * @param {string} url
 * @param {string} name name in error messages
 * @param {(bytes: number) => void} [grew] called with the size of each piece
 * @param {RequestInit} [how]
 * @returns {Promise<Uint8Array<ArrayBuffer>>}
 */
export async function fetchBytes(url, name, grew = () => {}, how = {}) {
  try {
    return await fetchOnce(url, name, grew, how);
  } catch (error) {
    if (/** @type {Error} */ (error).name !== 'Silent') throw error;
  }
  return fetchOnce(url, name, grew, how).catch((error) => {
    throw error.name === 'Silent' ? unreachable(error.message) : error;
  });
}

/**
 * @param {string} url
 * @param {string} name
 * @param {(bytes: number) => void} grew
 * @param {RequestInit} how
 * @returns {Promise<Uint8Array<ArrayBuffer>>}
 */
async function fetchOnce(url, name, grew, how) {
  const stop = new AbortController();
  let size = 0;
  /** @param {string} what */
  const silent = (what) => () => {
    stop.abort();
    // They come again.
    grew(-size);
    throw named('Silent', `${name} could not be downloaded: the server ${what}: check the connection`);
  };
  const asked = fetch(url, { ...how, signal: stop.signal }).catch(() => undefined);
  const response = await within(asked, LIMITS.server, silent('does not answer'));
  if (!response) throw unreachable(`${name} could not be downloaded: check the connection`);
  if (!response.ok) {
    const { status } = response;
    throw Object.assign(unreachable(`${name} could not be downloaded: the server answered ${status}`), { status });
  }
  /** @type {Uint8Array[]} */
  const pieces = [];
  const reader = response.body?.getReader();
  for (;;) {
    const read = reader?.read().catch(() => {
      throw unreachable(`the download of ${name} was interrupted: check the connection`);
    });
    const piece = read && (await within(read, LIMITS.server, silent('stopped in the middle')));
    if (!piece?.value) break;
    pieces.push(piece.value);
    size += piece.value.length;
    grew(piece.value.length);
  }
  const bytes = new Uint8Array(size);
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}

/** The browser's caches; undefined without https, and in frames that have no origin. */
export function cacheStorage() {
  try {
    return globalThis.caches;
  } catch {
    return undefined;
  }
}

/** Browser cache of files whose address changes with their content. If there is no cache, nothing is stored. */
export class Store {
  /** @param {Cache | undefined} cache */
  constructor(cache) {
    this.cache = cache;
  }

  static async open() {
    // Private windows, and pages that do not use https, have no cache, or one that fails.
    const opened = cacheStorage()?.open(CACHE).catch(() => undefined);
    return new Store(opened && (await within(opened, LIMITS.cache, () => undefined)));
  }

  /**
   * @param {string} url
   * @returns {Promise<Uint8Array<ArrayBuffer> | undefined>}
   */
  async get(url) {
    try {
      const response = this.cache && (await within(this.cache.match(url), LIMITS.cache, () => undefined));
      return response && new Uint8Array(await response.arrayBuffer());
    } catch {
      return undefined;
    }
  }

  /**
   * @param {string} url
   * @param {Uint8Array<ArrayBuffer>} bytes
   */
  async put(url, bytes) {
    // If the disk is full, the next visit downloads the file again.
    await this.cache?.put(url, new Response(bytes)).catch(() => {});
  }

  /**
   * Deletes files that no model needs any more. Other sites of the same origin share the cache, and may be below this one.
   * @param {string} site address of this site
   * @param {Set<string>} urls files to keep
   * @param {string} [model] address of a model's folder, which may be elsewhere: of it the files beside one another alone are deleted
   */
  async retain(site, urls, model) {
    try {
      const kept = (await this.cache?.keys()) ?? [];
      const own = ['files/', 'wasm/', 'samples/'].map((folder) => `${site}${folder}`);
      const is = (/** @type {string} */ url) => own.some((folder) => url.startsWith(folder)) || new URL('.', url).href === model;
      const old = kept.filter(({ url }) => is(url) && !urls.has(url));
      await Promise.all(old.map((entry) => this.cache?.delete(entry)));
    } catch {
      // Only space is wasted.
    }
  }
}
