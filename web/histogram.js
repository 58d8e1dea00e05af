// @ts-check
// Histogram of the photos' scores, with the threshold and the model's good photos.

import { byId } from './dom.js';
import { verdict } from './judge.js';

/** @import {Calibration, Verdict} from './types.js' */
/** @import {Inspected} from './result.js' */

/** Size of the picture, in its own units; the page stretches it. */
const WIDTH = 480;
const HEIGHT = 110;

/** Height of the bars; below them are the model's good photos. */
const BARS = 92;

const BINS = 40;

/** From the axis upwards. @type {Verdict[]} */
const STACK = ['good', 'defective', 'unknown'];

/**
 * @param {Inspected[]} results
 * @param {Calibration['good']} good scores of the model's good photos
 * @param {readonly [number, number]} range of scores
 * @param {number} threshold
 */
export function drawHistogram(results, good, [low, high], threshold) {
  const place = (/** @type {number} */ score) => ((score - low) / (high - low)) * WIDTH;
  const bins = Array.from({ length: BINS }, () => ({ good: 0, defective: 0, unknown: 0 }));
  for (const result of results) {
    const bin = Math.floor((place(result.score) / WIDTH) * BINS);
    bins[Math.max(0, Math.min(BINS - 1, bin))][verdict(result, threshold)] += 1;
  }
  const highest = Math.max(1, ...bins.map(({ good, defective, unknown }) => good + defective + unknown));
  const parts = bins.flatMap((counts, i) => {
    let base = BARS;
    return STACK.filter((kind) => counts[kind] > 0).map((kind) => {
      const height = (counts[kind] / highest) * (BARS - 4);
      base -= height;
      return shape('rect', { class: `bar-${kind}`, x: (i * WIDTH) / BINS + 0.5, y: base, width: WIDTH / BINS - 1, height });
    });
  });
  parts.push(shape('line', { class: 'axis', x1: 0, x2: WIDTH, y1: BARS, y2: BARS }));
  if (good) parts.push(...box(good.quantiles, place));
  parts.push(shape('line', { class: 'mark', x1: place(threshold), x2: place(threshold), y1: 0, y2: HEIGHT }));
  const picture = byId('histogram', SVGSVGElement);
  picture.replaceChildren(...parts);
  const accused = results.filter((result) => verdict(result, threshold) === 'defective').length;
  picture.setAttribute('aria-label', `Histogram of the scores of ${results.length} photos, ${accused} of them above the threshold`);
}

/**
 * Box plot: the line from the smallest to the largest score, the box around the middle half.
 * @param {{level: number, score: number}[]} quantiles
 * @param {(score: number) => number} place
 */
function box(quantiles, place) {
  const at = (/** @type {number} */ level) => quantiles.find((quantile) => quantile.level === level)?.score;
  const middle = (BARS + HEIGHT) / 2;
  const line = (/** @type {number} */ a, /** @type {number} */ b) =>
    shape('line', { class: 'good-range', x1: place(a), x2: place(b), y1: middle, y2: middle });
  const [least, lower, upper, most] = [at(0), at(0.25), at(0.75), at(1)];
  const parts = least === undefined || most === undefined ? [] : [line(least, most)];
  if (lower === undefined || upper === undefined) return parts;
  return [...parts, shape('rect', { class: 'good-half', x: place(lower), y: middle - 5, width: Math.max(1, place(upper) - place(lower)), height: 10 })];
}

/**
 * @param {'rect' | 'line'} kind
 * @param {Record<string, string | number>} attributes
 */
function shape(kind, attributes) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', kind);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  return element;
}
