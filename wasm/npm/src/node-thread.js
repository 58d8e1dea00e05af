// @ts-check
// A thread of Node with the face of a browser's worker.

import { Worker as Thread } from 'node:worker_threads';

/** @returns {Worker} */
export function startThread() {
  const thread = new Thread(new URL('./node-worker.js', import.meta.url));
  const events = new EventTarget();
  let waiting = 0;
  // A process may end while a detector is open, but not while it works.
  thread.unref();
  thread.on('message', (data) => {
    if (data.kind === 'answer' || data.kind === 'refusal') waiting -= 1;
    if (waiting === 0) thread.unref();
    events.dispatchEvent(new MessageEvent('message', { data }));
  });
  thread.on('error', () => events.dispatchEvent(new Event('error')));
  const worker = {
    addEventListener: events.addEventListener.bind(events),
    postMessage: (/** @type {any} */ message, /** @type {ArrayBuffer[]} */ transfer = []) => {
      waiting += 1;
      thread.ref();
      thread.postMessage(message, transfer);
    },
    terminate: () => void thread.terminate(),
  };
  return /** @type {any} */ (worker);
}
