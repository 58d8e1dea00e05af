// @ts-check
// What a start is made of, and the first photo on a GPU, shown with ?profile and kept as performance measures: dinomaly:download and so on.

/** @import {Description} from './types.js' */
/** @import {Pool} from './pool.js' */

/**
 * @param {Description} description
 * @param {Pool} detector
 * @param {HTMLElement} place where it is shown
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
  addEventListener('dinomaly:result', async (event) => {
    const { decode, detect } = /** @type {CustomEvent} */ (event).detail.timings;
    show({ 'first heatmap': decode + detect });
    for (const { kernel, count, milliseconds } of await detector.kernelTimes()) {
      show({ [`${kernel} × ${count}`]: milliseconds });
    }
  }, { once: true });
  await detector.startProfile().catch(({ message }) => {
    place.textContent += ` · ${message}`;
  });
}
