// @ts-check
// What a start is made of, shown with ?profile and kept as performance measures: dinomaly:download and so on.

/** @import {Description} from './types.js' */

/**
 * @param {Description} description
 * @param {HTMLElement} place where it is shown
 */
export function profile({ timings }, place) {
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
  addEventListener('dinomaly:result', (event) => {
    const { decode, detect } = /** @type {CustomEvent} */ (event).detail.timings;
    show({ 'first heatmap': decode + detect });
  }, { once: true });
}
