// @ts-check
// Times of the start and of the first photo's kernels, shown with ?profile and recorded as performance measures (dinomaly:download, …).

/** @import {Description, KernelTime} from './types.js' */
/** @import {Pool} from './pool.js' */

/** Stops listening for the previous model's first photo, which may never come. */
let listening = new AbortController();

/**
 * @param {Description} description
 * @param {Pool} detector
 * @param {HTMLElement} place element that shows the times
 */
export async function profile({ timings }, detector, place) {
  const { download, compile, upload, selfTest } = timings;
  place.hidden = false;
  place.textContent = '';
  const show = (/** @type {Record<string, number>} */ parts) => {
    for (const [name, duration] of Object.entries(parts)) {
      performance.measure(`dinomaly:${name}`, { start: 0, duration });
      place.textContent += `${place.textContent && ' · '}${name} ${duration.toFixed(0)} ms`;
    }
  };
  show({ download, compile, upload, 'self-test': selfTest, ready: performance.now() });
  const complain = (/** @type {Error} */ { message }) => {
    place.textContent += ` · ${message}`;
  };
  listening.abort();
  listening = new AbortController();
  addEventListener('dinomaly:result', (event) => {
    const { decode, detect } = /** @type {CustomEvent} */ (event).detail.timings;
    show({ 'first heatmap': decode + detect });
    const list = (/** @type {KernelTime[]} */ times) => {
      for (const { kernel, count, milliseconds } of times) show({ [`${kernel} × ${count}`]: milliseconds });
    };
    void detector.kernelTimes().then(list, complain);
  }, { once: true, signal: listening.signal });
  await detector.startProfile().catch(complain);
}
