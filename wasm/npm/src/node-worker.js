// @ts-check
// The worker in a thread of Node: what a browser's worker has and a thread has not.

import { readFile } from 'node:fs/promises';
import { parentPort } from 'node:worker_threads';

const port = parentPort;
if (!port) throw new Error('node-worker.js runs in a thread');

const scope = /** @type {any} */ (globalThis);
Object.assign(scope, {
  self: scope,
  addEventListener: (/** @type {string} */ _, /** @type {(event: {data: any}) => void} */ listener) => port.on('message', (data) => listener({ data })),
  postMessage: (/** @type {any} */ message, /** @type {{transfer: ArrayBuffer[]}} */ { transfer }) => port.postMessage(message, transfer),
});

// Node's own reads no files.
const { fetch: remote } = globalThis;
scope.fetch = async (/** @type {string} */ url, /** @type {RequestInit} */ how) => {
  if (!url.startsWith('file:')) return remote(url, how);
  try {
    return new Response(await readFile(new URL(url)));
  } catch {
    return new Response(null, { status: 404 });
  }
};

await import(new URL('./worker.js', import.meta.url).href);
