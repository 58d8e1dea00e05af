// @ts-check
// Later visits: offline.js serves the page from the cache, and the page reloads if the site has changed.

import { byId } from './dom.js';
import { Store, cacheStorage } from './download.js';
import { forgetDevices } from './kept.js';
import { LIMITS, within } from './limits.js';

const SCRIPT = new URL('offline.js', document.baseURI).href;

/** Shortest time between two automatic reloads in milliseconds, against endless reloads if a host's servers disagree. */
const PAUSE = 10_000;

const workers = serviceWorkers();

/** Whether this page came from the cache. */
export const fromCache = workers?.controller?.scriptURL === SCRIPT;

/** Whether a reload could lose something: a photo, a choice, an open dialog. */
let touched = false;
/** Whether the visitor agreed to a reload. */
let agreed = false;
for (const event of ['click', 'change', 'dragenter', 'drop', 'paste']) {
  addEventListener(event, () => { touched = true; }, { capture: true, once: true });
}

/** @type {Promise<void> | undefined} */
let prepared;

/** Stores the page for the next visit. If it came from the cache, looks for a newer one. */
export function prepareNextVisit() {
  prepared ??= prepare().catch(() => {
    // The browser forbids storage: each visit is like the first.
  });
}

async function prepare() {
  const registration = await workers?.register(SCRIPT, { updateViaCache: 'none' });
  if (!registration || !fromCache) return;
  workers?.addEventListener('controllerchange', () => whenFree(reload));
  registration.addEventListener('updatefound', () => follow(registration, registration.installing));
  follow(registration, registration.installing ?? registration.waiting);
  await registration.update().catch(() => leave(registration));
}

/**
 * Switches to a newer version when it is complete.
 * @param {ServiceWorkerRegistration} registration
 * @param {ServiceWorker | null} newer
 */
function follow(registration, newer) {
  const look = () => {
    if (!newer || newer.state === 'installing') return;
    newer.removeEventListener('statechange', look);
    if (newer.state === 'redundant') void leave(registration);
    else whenFree(() => newer.postMessage('take over'));
  };
  newer?.addEventListener('statechange', look);
  look();
}

/**
 * The newer version cannot be stored, or the site is gone: the next page comes from the server.
 * @param {ServiceWorkerRegistration} registration
 */
async function leave(registration) {
  const answer = await fetch(SCRIPT, { cache: 'no-store' }).catch(() => undefined);
  // If there is no connection, a login page, or a failing server, the cache has the better page.
  if (!answer || answer.redirected || !(answer.ok || [404, 410].includes(answer.status))) return;
  await registration.unregister();
  // Until then the worker still serves this page's files.
  whenFree(() => forget(registration.scope).then(reload, reload));
}

/**
 * Deletes the service worker's caches, which are no longer used. offline.js names them.
 * @param {string} scope
 */
async function forget(scope) {
  // Another window may have stored the page again.
  if (await workers?.getRegistration(scope)) return;
  const kept = (await caches.keys()).filter((name) => name.startsWith(`dinomaly-page ${scope} `));
  await Promise.all(kept.map((name) => caches.delete(name)));
}

/** Forgets what this browser downloaded of the site and measured of its devices, but no photo, result or model, and loads the page again. */
export async function forgetAll() {
  forgetDevices();
  const all = async () => {
    const site = new URL('.', document.baseURI).href;
    const registration = await workers?.getRegistration();
    if (registration?.scope === site) await registration.unregister();
    if (cacheStorage()) await forget(site);
    await (await Store.open()).retain(site, new Set());
  };
  // A cache that does not answer is no reason to stay here.
  await within(all(), LIMITS.cache, () => {}).catch(() => {});
  location.reload();
}

/**
 * Calls `act` if nothing can be lost, else when the visitor agrees.
 * @param {() => void} act
 */
function whenFree(act) {
  const again = Date.now() - (history.state?.reloaded ?? 0) < PAUSE;
  if (agreed || !(touched || again)) return act();
  const note = byId('newer', HTMLParagraphElement);
  note.hidden = false;
  byId('reload', HTMLButtonElement).onclick = () => {
    agreed = true;
    act();
  };
}

/** @returns {ServiceWorkerContainer | undefined} */
function serviceWorkers() {
  try {
    // Undefined if the page does not use https.
    return navigator.serviceWorker;
  } catch {
    // Access may be forbidden in frames.
    return undefined;
  }
}

function reload() {
  history.replaceState({ reloaded: Date.now() }, '');
  location.reload();
}
