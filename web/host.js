// @ts-check
// What this page is for its detectors.

import { fromBlob, startWorker } from './start.js';

/** @import {Host} from './types.js' */
/** @import {Way} from './start.js' */

const WORKER = new URL('worker.js', document.baseURI).href;

/** @type {Way} */
const directly = () => ({ worker: new Worker(WORKER, { type: 'module' }), settle: () => {} });

/** @type {Host} */
export const HOST = {
  base: document.baseURI,
  start: () => startWorker([() => fromBlob(WORKER), directly]),
  lost: (reason) => void dispatchEvent(new CustomEvent('dinomaly:lost', { detail: reason })),
};
