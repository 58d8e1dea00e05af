// @ts-check
// What a detector found on a photo.

import { colours } from './maps.js';
import { verdict } from './judge.js';

/** @import {Judge} from './judge.js' */
/** @import {Detection, Region, Verdict} from './types.js' */

/** Result of a detector on a photo. */
export class Result {
  /** How unusual the photo is. @type {number} */
  score;
  /** Score above which a photo of this class is defective. @type {number} */
  threshold;
  /** The score on a scale that classes share: 0 for a usual good part, 1 at the threshold; null if the model does not tell. @type {number | null} */
  normalised;
  /** `unknown` is a photo unlike anything that the model knows. @type {Verdict} */
  verdict;
  /** Product whose threshold counts; null if that of all products does. @type {string | null} */
  class;
  /** Product whose good photos are nearest; null if the model does not tell products. @type {string | null} */
  nearest;
  /** Width of the upright photo in pixels. @type {number} */
  width;
  /** @type {number} */
  height;
  /** Part of the photo that the map covers: x0, y0, x1, y1 in pixels. @type {[number, number, number, number]} */
  region;
  /** Anomaly values, row by row. @type {Float32Array} */
  map;
  /** Width of the map in its own pixels. @type {number} */
  mapWidth;
  /** @type {number} */
  mapHeight;
  /** Connected parts above the pixel threshold, highest first; undefined if the model has none. @type {Region[] | undefined} */
  regions;
  /** @type {'gpu' | 'cpu'} */
  device;
  /** Milliseconds of decoding and of detection. @type {{decode: number, detect: number}} */
  timings;
  #palette;
  #middle;

  /**
   * @param {Detection} detection
   * @param {Judge} judge
   * @param {string | null} product
   * @param {Uint8ClampedArray} palette
   * @param {'gpu' | 'cpu'} device
   */
  constructor(detection, judge, product, palette, device) {
    const { score, width, height, region, map, mapWidth, mapHeight, regions, timings } = detection;
    this.score = score;
    this.threshold = judge.threshold(product);
    this.normalised = judge.normalised({ score, product });
    this.verdict = verdict(detection, this.threshold);
    this.class = product;
    this.nearest = detection.nearest ?? null;
    this.width = width;
    this.height = height;
    this.region = region;
    this.map = map;
    this.mapWidth = mapWidth;
    this.mapHeight = mapHeight;
    this.regions = regions;
    this.device = device;
    this.timings = timings;
    this.#palette = palette;
    this.#middle = this.threshold;
  }

  /**
   * The map in colours, with transparency: RGBA of each of its pixels. The middle of the scale is the threshold.
   * @returns {Uint8ClampedArray<ArrayBuffer>}
   */
  colours() {
    return colours(this.map, this.#palette, this.#middle);
  }

  /**
   * Draws the heatmap over what is on a canvas, which stands for the whole photo in any size.
   * @param {HTMLCanvasElement | OffscreenCanvas} canvas
   * @param {{opacity?: number}} [options] opacity from 0 to 1
   */
  draw(canvas, { opacity = 0.55 } = {}) {
    const context = /** @type {CanvasRenderingContext2D | null} */ (canvas.getContext('2d'));
    const heat = new OffscreenCanvas(this.mapWidth, this.mapHeight);
    const image = new ImageData(this.colours(), this.mapWidth, this.mapHeight);
    const own = heat.getContext('2d');
    if (!context || !own) throw new Error('the heatmap cannot be drawn: the canvas has another context than "2d", or the browser has no memory for it');
    own.putImageData(image, 0, 0);
    const [x0, y0, x1, y1] = this.region;
    const [across, down] = [canvas.width / this.width, canvas.height / this.height];
    context.save();
    context.resetTransform();
    context.globalAlpha = opacity;
    context.globalCompositeOperation = 'source-over';
    context.drawImage(heat, x0 * across, y0 * down, (x1 - x0) * across, (y1 - y0) * down);
    context.restore();
  }
}
