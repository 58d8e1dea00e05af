// @ts-check
// Visits after the first: offline.js opens the page from the cache, and it is loaded again where the site has changed since.

import { byId } from './dom.js';

const SCRIPT = new URL('offline.js', document.baseURI).href;

/** Milliseconds within which the page does not load itself twice: where a host's servers disagree it would never end. */
const PAUSE = 10_000;

const workers = serviceWorkers();

/** Whether this page came from the cache. */
export const fromCache = workers?.controller?.scriptURL === SCRIPT;

/** Whether something could be lost: a photo, a choice, a dialog that is open. */
let touched = false;
/** Whether the visitor wants the newer page all the same. */
let agreed = false;
for (const event of ['click', 'change', 'dragenter', 'drop', 'paste']) {
  addEventListener(event, () => { touched = true; }, { capture: true, once: true });
}

/** @type {Promise<void> | undefined} */
let prepared;

/** Keeps the page for the next visit. If it came from the cache, asks the site for a newer one. */
export function prepareNextVisit() {
  prepared ??= prepare().catch(() => {
    // Windows that may keep nothing: each visit is a first one.
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
 * Takes a newer version when it is complete.
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
 * What the site has now cannot be kept, or it is gone: the next page comes from the server, whatever that has.
 * @param {ServiceWorkerRegistration} registration
 */
async function leave(registration) {
  const answer = await fetch(SCRIPT, { cache: 'no-store' }).catch(() => undefined);
  // Without a connection, before somebody's login, or while the server fails, the cache has the better page.
  if (!answer || answer.redirected || !(answer.ok || [404, 410].includes(answer.status))) return;
  await registration.unregister();
  // Until then the worker still gives this page its files.
  whenFree(() => forget(registration.scope).then(reload, reload));
}

/**
 * Removes what the service worker kept, which nobody would ask for again. offline.js names the caches.
 * @param {string} scope
 */
async function forget(scope) {
  // Another window may have kept the page anew.
  if (await workers?.getRegistration(scope)) return;
  const kept = (await caches.keys()).filter((name) => name.startsWith(`dinomaly-page ${scope} `));
  await Promise.all(kept.map((name) => caches.delete(name)));
}

/**
 * Goes on where nothing can be lost, else when the visitor says so.
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
    // None without https.
    return navigator.serviceWorker;
  } catch {
    // Frames may be forbidden to ask.
    return undefined;
  }
}

function reload() {
  history.replaceState({ reloaded: Date.now() }, '');
  location.reload();
}
