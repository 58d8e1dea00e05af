// @ts-check
// Colours of heatmaps, as the detector has them, and their legend.

import { byId } from './dom.js';

/** @import {Pool} from './pool.js' */

/** Colours of the scale. */
const COLOURS = 256;

/**
 * RGBA of the values from 0 to twice a threshold.
 * @param {Pool} detector
 * @param {number} threshold the model's, for photos of no class
 */
export async function paletteOf(detector, threshold) {
  const ramp = Float32Array.from({ length: COLOURS }, (_, i) => (i / (COLOURS - 1)) * 2 * threshold);
  return new Uint8ClampedArray(await detector.colours(ramp, null));
}

/**
 * Draws the legends of the page and of the large view.
 * @param {Uint8ClampedArray<ArrayBuffer>} palette
 */
export function drawScale(palette) {
  for (const id of ['scale', 'viewer-scale']) {
    byId(id, HTMLCanvasElement).getContext('2d')?.putImageData(new ImageData(palette.slice(), COLOURS), 0, 0);
  }
}
