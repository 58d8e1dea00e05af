// @ts-check
/// <reference lib="webworker" />
// The service worker: gives the page its own small files from a cache, so that it opens without a request and without a
// server. It fetches what is listed here from the site itself, and nothing else; photos never come by, they are no requests.

/**
 * The page's files by path, with the hashes of their content. `dinomaly site` writes them here.
 * @type {{version: string, files: Record<string, string>}}
 */
const SITE = { version: '', files: {} };

const worker = /** @type {ServiceWorkerGlobalScope} */ (/** @type {unknown} */ (self));
const { scope } = worker.registration;

/** Caches of this site, and of no other one of its origin, begin with this: addresses have no blanks. */
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

/** Takes all files or none: where one cannot be had as it is listed, this version is not installed. */
async function keep() {
  const fetched = await Promise.all([...listed].map(async ([url, hash]) => ({ url, response: await obtain(url, hash) })));
  const cache = await caches.open(CACHE);
  try {
    await Promise.all(fetched.map(({ url, response }) => cache.put(url, response)));
  } catch (reason) {
    // No room for all of it.
    await caches.delete(CACHE);
    throw reason;
  }
}

/**
 * @param {string} url
 * @param {string} integrity the hash: other content is refused
 */
async function obtain(url, integrity) {
  // What the browser's HTTP cache has may be older than the site.
  const { body, headers } = await fetch(url, { integrity }).catch(() => fetch(url, { integrity, cache: 'reload' }));
  const kept = new Headers(headers);
  // There is one answer to each address, whoever asks.
  kept.delete('vary');
  // Pages are not opened from an answer that was redirected; a new one was not.
  return new Response(body, { headers: kept });
}

async function forgetOlder() {
  const older = (await caches.keys()).filter((name) => name.startsWith(OWN) && name !== CACHE);
  await Promise.all(older.map((name) => caches.delete(name)));
}

/**
 * What is asked for; the page is the same whatever its address says behind the question mark.
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
