// @ts-check
// What the page keeps of an inspected photo: numbers, a thumbnail, the deflated map. The photo stays in its file.

import { coloured, pack, unpack } from './maps.js';
import { copy, heatThumbnail, picture, thumbnail } from './picture.js';

/** @import {Detection, Label, Region, Result, Row, Verdict} from './types.js' */
/** @import {PackedMap} from './maps.js' */

/** Bytes of a file that tell its kind. */
const HEAD = 32;

/** @implements {Result} */
export class Inspected {
  /** Order of arrival, also over visits. */
  arrived = 0;
  /** @type {string | null} */
  product = null;
  /** @type {Verdict} */
  verdict = 'good';
  threshold = 0;
  /** @type {Label} */
  label = null;
  /** Value of the colour in the middle of the scale: the model's threshold of the product. */
  middle = 0;
  /** @type {Blob | null} */
  thumbnail = null;
  /** @type {Blob | null} */
  heat = null;
  /** @type {Region[] | undefined} */
  regions;
  /** @type {string | null} class whose good photos are nearest */
  nearest = null;
  /** @type {File | undefined} */
  file;
  /** Milliseconds of decoding and detection, unless restored. @type {number | undefined} */
  duration;
  /** @type {PackedMap | undefined} */
  #map;
  /** The detector's reduced copy, if the browser does not read the photo as the detector does. @type {Blob | undefined} */
  #copy;
  /** @type {Uint8ClampedArray | undefined} */
  #palette;

  /** @param {Pick<Row, 'id' | 'name' | 'score' | 'device' | 'time' | 'width' | 'height' | 'unknown' | 'region'>} numbers */
  constructor({ id, name, score, device, time, width, height, unknown, region }) {
    this.id = id;
    this.name = name;
    this.score = score;
    this.device = device;
    this.time = time;
    this.width = width;
    this.height = height;
    this.unknown = unknown;
    this.region = region;
  }

  /**
   * @param {File} file
   * @param {Detection} detection
   * @param {'webgpu' | 'wasm'} device
   */
  static of(file, detection, device) {
    const { score, width, height, region } = detection;
    const numbers = { id: identity(), name: file.name, score, device, time: Date.now(), width, height, region };
    const result = new Inspected({ ...numbers, unknown: detection.unknown === true });
    result.file = file;
    result.regions = detection.regions;
    result.nearest = detection.nearest ?? null;
    result.duration = detection.timings.decode + detection.timings.detect;
    return result;
  }

  /** @param {Row} row */
  static restored(row) {
    const result = new Inspected(row);
    const { arrived, product, verdict, threshold, middle, label, regions, thumbnail, heat, file } = row;
    return Object.assign(result, { arrived, product, verdict, threshold, middle, label, regions, thumbnail, heat, file });
  }

  /**
   * Draws the thumbnails, and keeps the map.
   * @param {Detection} detection
   * @param {Uint8ClampedArray} palette
   */
  async keep(detection, palette) {
    const { preview, previewWidth, region, width, height, map, mapWidth, mapHeight } = detection;
    this.#palette = palette;
    const values = { values: map, width: mapWidth, height: mapHeight };
    const small = new ImageData(preview, previewWidth);
    if (this.file && !(await plain(this.file))) this.#copy = await copy(small);
    this.thumbnail = await thumbnail(small, region, width, height);
    this.heat = await heatThumbnail(values, palette, this.middle);
    this.#map = await pack(values);
  }

  /** Draws the small heatmap again, after the middle of its colours has moved. */
  async recolour() {
    if (this.#palette) this.heat = await heatThumbnail(await this.map(), this.#palette, this.middle);
  }

  /** Whether the map is there, which restored results lack. */
  get whole() {
    return this.#map !== undefined;
  }

  async map() {
    if (!this.#map) throw new Error('the map was not kept: inspect the photo again');
    return unpack(this.#map);
  }

  /** The photo, upright; if it cannot be read, a smaller copy. The caller closes it. */
  async photo() {
    for (const source of [this.#copy ?? this.file, this.thumbnail]) {
      const bitmap = source && (await createImageBitmap(source, { imageOrientation: 'from-image' }).catch(() => undefined));
      // A browser that does not turn photos as their EXIF says would show them under the wrong heatmap.
      if (bitmap && (source !== this.file || bitmap.width === this.width)) return bitmap;
      bitmap?.close();
    }
    throw new Error('the photo cannot be read any more: it may have been moved or changed');
  }

  /** The heatmap, in the map's size. */
  async heatmap() {
    const map = await this.map();
    if (!this.#palette) throw new Error('the map was not kept: inspect the photo again');
    return { map, image: coloured(map, this.#palette, this.middle) };
  }

  /** @param {'heatmap' | 'overlay'} mode */
  async picture(mode) {
    const { image } = await this.heatmap();
    const photo = mode === 'overlay' ? await this.photo() : null;
    try {
      return await picture(photo, image, this.region, this.width, this.height);
    } finally {
      photo?.close();
    }
  }
}

/** A name for a result that no other one has. `randomUUID` is missing on pages without https. */
function identity() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

/**
 * Whether every browser reads a file, with the detector's brightness: JPEG, PNG of 8 bits, WebP, BMP.
 * @param {File} file
 */
async function plain(file) {
  // Looking into every file would take longer than all the rest.
  if (['image/jpeg', 'image/webp', 'image/bmp'].includes(file.type)) return true;
  const head = new Uint8Array(await file.slice(0, HEAD).arrayBuffer());
  const text = String.fromCharCode(...head);
  if (text.startsWith('\xff\xd8\xff') || text.startsWith('BM')) return true;
  if (text.startsWith('RIFF') && text.slice(8, 12) === 'WEBP') return true;
  return text.startsWith('\x89PNG') && head[24] <= 8;
}
