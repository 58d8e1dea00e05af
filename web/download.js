// @ts-check
// Files of a site, with progress, kept by their content.

const CACHE = 'dinomaly-files';

/**
 * Takes a file from the cache or, where it is missing there or damaged, from the site.
 * @template T
 * @param {Store} store
 * @param {string} url which names the content
 * @param {string} name what it is called where it cannot be had
 * @param {(bytes: number) => void} grew called with the size of each piece
 * @param {(content: Uint8Array<ArrayBuffer>) => T | Promise<T>} take throws where the content is not the right one
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
      // Fetched again below.
    }
  }
  const bytes = await fetchBytes(url, name, grew);
  const taken = await take(bytes);
  await store.put(url, bytes);
  return taken;
}

/**
 * Fetches a file and tells how it grows.
 * @param {string} url
 * @param {string} name what it is called where it cannot be had
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
  if (!response) throw new Error(`${name} could not be fetched: check the connection and load the page again`);
  if (!response.ok) throw new Error(`${name} could not be fetched: the server answered ${response.status}`);
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
      throw new Error(`${name} broke off: check the connection and load the page again`);
    });
    if (done) return;
    yield value;
  }
}

/** Files whose URL names their content, kept in the browser's cache; where that is not to be had, nowhere. */
export class Store {
  /** @param {Cache | undefined} cache */
  constructor(cache) {
    this.cache = cache;
  }

  static async open() {
    // Private windows and pages without https have no cache, or one that fails.
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
    // A full disk costs another download next time, nothing else.
    await this.cache?.put(url, new Response(bytes)).catch(() => {});
  }

  /**
   * Forgets what no model of the site needs any more; other sites of the same origin share the cache, and may lie below this one.
   * @param {string} site its address
   * @param {Set<string>} urls those to keep
   */
  async retain(site, urls) {
    try {
      const kept = (await this.cache?.keys()) ?? [];
      const own = ['files/', 'wasm/'].map((folder) => `${site}${folder}`);
      const old = kept.filter(({ url }) => own.some((folder) => url.startsWith(folder)) && !urls.has(url));
      await Promise.all(old.map((entry) => this.cache?.delete(entry)));
    } catch {
      // Nothing is lost but space.
    }
  }
}
