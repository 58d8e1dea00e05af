// @ts-check
/// <reference lib="webworker" />
// The service worker: serves the page's own small files from a cache, so that it opens with no request and no server. It fetches
// only the files listed here, from the site itself. It never sees photos, which are not requests.

/**
 * Hashes of the page's files by path, written by `dinomaly site`.
 * @type {{version: string, files: Record<string, string>}}
 */
const SITE = { version: '', files: {} };

const worker = /** @type {ServiceWorkerGlobalScope} */ (/** @type {unknown} */ (self));
const { scope } = worker.registration;

/** Prefix of this site's caches. Other sites of the origin have other prefixes, because addresses contain no blanks. */
const OWN = `dinomaly-page ${scope} `;
const CACHE = `${OWN}${SITE.version}`;

/** Hashes by address. */
const listed = new Map(Object.entries(SITE.files).map(([path, hash]) => [new URL(path, scope).href, hash]));

worker.addEventListener('install', (event) => event.waitUntil(keep()));
worker.addEventListener('activate', (event) => event.waitUntil(forgetOlder()));
worker.addEventListener('message', ({ data }) => {
  if (data === 'take over') void worker.skipWaiting();
});
worker.addEventListener('fetch', (event) => {
  const url = address(event.request);
  if (event.request.method === 'GET' && listed.has(url)) event.respondWith(answer(url, event.request));
});

/** Stores all files or none: if one is not available as listed, this version is not installed. */
async function keep() {
  const fetched = await Promise.all([...listed].map(async ([url, hash]) => ({ url, response: await obtain(url, hash) })));
  const cache = await caches.open(CACHE);
  try {
    await Promise.all(fetched.map(({ url, response }) => cache.put(url, response)));
  } catch (reason) {
    // There is not enough space for all files.
    await caches.delete(CACHE);
    throw reason;
  }
}

/**
 * @param {string} url
 * @param {string} integrity hash; other content is refused
 */
async function obtain(url, integrity) {
  // The browser's HTTP cache may be older than the site.
  const { body, headers } = await fetch(url, { integrity }).catch(() => fetch(url, { integrity, cache: 'reload' }));
  const kept = new Headers(headers);
  // Each address has one answer for all requests.
  kept.delete('vary');
  // Browsers refuse pages from a redirected response; a new one is not redirected.
  return new Response(body, { headers: kept });
}

async function forgetOlder() {
  const older = (await caches.keys()).filter((name) => name.startsWith(OWN) && name !== CACHE);
  await Promise.all(older.map((name) => caches.delete(name)));
}

/**
 * Address of the requested file. The page is the same for every query string.
 * @param {Request} request
 */
function address({ url, mode }) {
  const asked = new URL(url);
  asked.hash = '';
  if (mode === 'navigate') asked.search = '';
  return asked.href === scope ? new URL('index.html', scope).href : asked.href;
}

/**
 * @param {string} url
 * @param {Request} request
 */
async function answer(url, request) {
  const cached = await caches.match(url, { cacheName: CACHE }).catch(() => undefined);
  return cached ?? fetch(request);
}
