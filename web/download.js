// @ts-check
// Download of a site's files, with progress and a cache.

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
 * Downloads a file and reports progress.
 * @param {string} url
 * @param {string} name name in error messages
 * @param {(bytes: number) => void} grew called with the size of each piece
 * @returns {Promise<Uint8Array<ArrayBuffer>>}
 */
async function fetchBytes(url, name, grew) {
  const response = await request(url, name);
  /** @type {Uint8Array[]} */
  const pieces = [];
  let size = 0;
  for await (const piece of pieceByPiece(response, name)) {
    pieces.push(piece);
    size += piece.length;
    grew(piece.length);
  }
  const bytes = new Uint8Array(size);
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}

/**
 * @param {string} url
 * @param {string} name
 */
async function request(url, name) {
  const response = await fetch(url).catch(() => undefined);
  if (!response) throw new Error(`${name} could not be downloaded: check the connection and reload the page`);
  if (!response.ok) throw new Error(`${name} could not be downloaded: the server answered ${response.status}`);
  return response;
}

/**
 * @param {Response} response
 * @param {string} name
 */
async function* pieceByPiece(response, name) {
  const reader = response.body?.getReader();
  if (!reader) return;
  for (;;) {
    const { done, value } = await reader.read().catch(() => {
      throw new Error(`the download of ${name} was interrupted: check the connection and reload the page`);
    });
    if (done) return;
    yield value;
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
    const cache = await globalThis.caches?.open(CACHE).catch(() => undefined);
    return new Store(cache);
  }

  /**
   * @param {string} url
   * @returns {Promise<Uint8Array<ArrayBuffer> | undefined>}
   */
  async get(url) {
    try {
      const response = await this.cache?.match(url);
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
   * Deletes files that no model of the site needs any more. Other sites of the same origin share the cache, and may be below this one.
   * @param {string} site address of this site
   * @param {Set<string>} urls files to keep
   */
  async retain(site, urls) {
    try {
      const kept = (await this.cache?.keys()) ?? [];
      const own = ['files/', 'wasm/'].map((folder) => `${site}${folder}`);
      const old = kept.filter(({ url }) => own.some((folder) => url.startsWith(folder)) && !urls.has(url));
      await Promise.all(old.map((entry) => this.cache?.delete(entry)));
    } catch {
      // Only space is wasted.
    }
  }
}
