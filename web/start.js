// @ts-check
// The start of a worker, by the ways that the host's policy leaves.

import { LIMITS, named, unreachable, within } from './limits.js';

/** The shortest WebAssembly module. */
const EMPTY = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0]);

const HOST = 'the host of this page forbids it: its header Content-Security-Policy has to allow';

/** A way to make a worker; `settle` is called once it runs or is refused. @typedef {() => {worker: Worker, settle: () => void}} Way */

/**
 * A worker of the detector whose script runs.
 * @param {Way[]} ways of which the next is taken if one is refused
 * @returns {Promise<Worker>}
 */
export async function startWorker(ways) {
  demandWebAssembly();
  for (const way of ways) {
    try {
      return await started(way);
    } catch (error) {
      if (/** @type {Error} */ (error).name !== 'Refused') throw error;
    }
  }
  throw new Error(`the detector cannot be started, because ${framed() ? FRAME : `${HOST} "worker-src 'self' blob:"`}`);
}

const FRAME = 'the frame around this page forbids it: open the page in a window of its own';

/** Whether the page is in a frame that has no origin, and so neither storage nor workers. */
const framed = () => self.origin === 'null';

/** The policy may forbid WebAssembly, as browsers with particular protection do. */
function demandWebAssembly() {
  if (!globalThis.WebAssembly) throw new Error('this browser has no WebAssembly, or it is switched off: use another browser');
  try {
    new WebAssembly.Module(EMPTY);
  } catch {
    throw new Error(`the detector cannot be started, because ${HOST} "script-src 'self' 'wasm-unsafe-eval'"`);
  }
}

/**
 * A worker created from a blob inherits the page's Content-Security-Policy. One fetched from a server has only the policy of
 * that response, and static hosts send none. The import is a dynamic one: Firefox asks the service worker for no other in a blob.
 * @param {string} script
 */
export function fromBlob(script) {
  const text = `import(${JSON.stringify(script)}).catch(() => postMessage({ kind: 'unreachable' }));`;
  const url = URL.createObjectURL(new Blob([text], { type: 'text/javascript' }));
  return { worker: new Worker(url, { type: 'module' }), settle: () => URL.revokeObjectURL(url) };
}

/**
 * @param {Way} way
 * @returns {Promise<Worker>}
 */
async function started(way) {
  /** @type {ReturnType<Way>} */
  let made;
  try {
    made = way();
  } catch {
    throw named('Refused', 'workers are forbidden');
  }
  const { worker, settle } = made;
  const outcome = new Promise((resolve) => {
    worker.addEventListener('message', ({ data }) => resolve(data.kind), { once: true });
    worker.addEventListener('error', () => resolve('refused'), { once: true });
  });
  const kind = await within(outcome, LIMITS.server, () => 'late');
  settle();
  if (kind === 'started') return worker;
  worker.terminate();
  if (kind === 'refused') throw named('Refused', 'the worker was refused');
  throw unreachable(`the detector's script ${kind === 'late' ? 'did not arrive in time' : 'could not be downloaded'}: check the connection`);
}
