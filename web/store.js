// @ts-check
// What this site keeps on the visitor's device, in a database of its own: models, results, and with consent photos.

/** Other sites of the same origin have other databases. */
const NAME = `dinomaly ${new URL('.', document.baseURI).href}`;

/** @typedef {'models' | 'shards' | 'good' | 'rows' | 'photos'} StoreName */

/** @type {StoreName[]} */
const STORES = ['models', 'shards', 'good', 'rows', 'photos'];

/** Longest time to wait for the database in milliseconds: a browser may never answer. */
const PATIENCE = 3000;

/** @type {Promise<IDBDatabase> | undefined} */
let opening;

/** @returns {Promise<IDBDatabase>} */
function database() {
  opening ??= new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error('the browser keeps nothing')), PATIENCE);
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => STORES.forEach((name) => request.result.createObjectStore(name, { keyPath: 'id' }));
    request.onerror = () => reject(request.error);
    request.onsuccess = () => {
      // A later version of the page may change it.
      request.result.onversionchange = () => request.result.close();
      resolve(request.result);
    };
  });
  return opening;
}

/**
 * Carries out requests in one transaction.
 * @template T
 * @param {StoreName} name
 * @param {IDBTransactionMode} mode
 * @param {(store: IDBObjectStore) => IDBRequest<T> | void} work
 * @returns {Promise<T>} result of the request that `work` returned
 */
async function transact(name, mode, work) {
  const transaction = (await database()).transaction(name, mode);
  const request = work(transaction.objectStore(name));
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve(/** @type {T} */ (request?.result));
    transaction.onabort = () => reject(transaction.error ?? new Error('the device has no space left'));
  });
}

/**
 * @param {StoreName} name
 * @returns {Promise<any[]>} in the order of their ids
 */
export function all(name) {
  return transact(name, 'readonly', (store) => store.getAll());
}

/**
 * @param {StoreName} name
 * @returns {Promise<IDBValidKey[]>}
 */
export function ids(name) {
  return transact(name, 'readonly', (store) => store.getAllKeys());
}

/**
 * @param {StoreName} name
 * @param {string} id
 * @returns {Promise<any>}
 */
export function get(name, id) {
  return transact(name, 'readonly', (store) => store.get(id));
}

/**
 * @param {StoreName} name
 * @param {{id: string}[]} values
 */
export function put(name, ...values) {
  return transact(name, 'readwrite', (store) => values.forEach((value) => store.put(value)));
}

/**
 * @param {StoreName} name
 * @param {string[]} removed ids
 */
export function remove(name, ...removed) {
  return transact(name, 'readwrite', (store) => removed.forEach((id) => store.delete(id)));
}

/** @param {StoreName} name */
export function clear(name) {
  return transact(name, 'readwrite', (store) => void store.clear());
}
