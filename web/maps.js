// @ts-check
// Anomaly maps: kept small, and coloured.

/** @import {AnomalyMap} from './types.js' */

/** Values are kept in steps of this share of their range. */
const STEPS = 65535;

/** Values that are coded without a pause, so that the page stays responsive. */
const BATCH = 1 << 19;

/**
 * A map in 16 bits, deflated.
 * @typedef {{width: number, height: number, low: number, high: number, content: Blob}} PackedMap
 */

/**
 * Keeps a map to 1/65535 of its range. Differences of neighbours, upper bytes first, deflate well, because maps are smooth.
 * @param {AnomalyMap} map
 * @returns {Promise<PackedMap>}
 */
export async function pack({ values, width, height }) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  const unit = STEPS / (high - low || 1);
  const bytes = new Uint8Array(2 * values.length);
  let before = 0;
  for (let start = 0; start < values.length; start += BATCH) {
    if (start > 0) await pause();
    for (let i = start; i < Math.min(values.length, start + BATCH); i++) {
      const level = Math.round((values[i] - low) * unit);
      const step = level - before;
      bytes[i] = step >> 8;
      bytes[values.length + i] = step;
      before = level;
    }
  }
  const deflated = new Blob([bytes]).stream().pipeThrough(new CompressionStream('deflate'));
  return { width, height, low, high, content: await new Response(deflated).blob() };
}

/**
 * @param {PackedMap} packed
 * @returns {Promise<AnomalyMap>}
 */
export async function unpack({ width, height, low, high, content }) {
  const inflated = content.stream().pipeThrough(new DecompressionStream('deflate'));
  const bytes = new Uint8Array(await new Response(inflated).arrayBuffer());
  const values = new Float32Array(width * height);
  const unit = (high - low) / STEPS;
  let level = 0;
  for (let i = 0; i < values.length; i++) {
    level = (level + (bytes[i] << 8) + bytes[values.length + i]) & 0xffff;
    values[i] = low + level * unit;
  }
  return { values, width, height };
}

/**
 * Heatmap with transparency, in the map's size.
 * @param {AnomalyMap} map
 * @param {Uint8ClampedArray} palette RGBA of the values from 0 to twice the middle, in equal steps
 * @param {number} middle value of the colour in the middle: the threshold
 */
export function coloured(map, palette, middle) {
  return new ImageData(colours(map.values, palette, middle), map.width, map.height);
}

/**
 * The colours of values, RGBA.
 * @param {Float32Array} values
 * @param {Uint8ClampedArray} palette as of {@link coloured}
 * @param {number} middle
 */
export function colours(values, palette, middle) {
  const rgba = new Uint8ClampedArray(4 * values.length);
  const pixels = new Uint32Array(rgba.buffer);
  const scale = new Uint32Array(Uint8ClampedArray.from(palette).buffer);
  const last = scale.length - 1;
  const unit = middle > 0 ? last / (2 * middle) : Infinity;
  for (let i = 0; i < values.length; i++) {
    const at = Math.round(values[i] * unit);
    // A threshold of zero leaves no range: 0 times infinity is the first colour.
    pixels[i] = scale[at > 0 ? Math.min(last, at) : 0];
  }
  return rgba;
}

/**
 * A smaller map, of the highest values, so that small defects stay visible.
 * @param {AnomalyMap} map
 * @param {number} side longest side that is allowed
 * @returns {AnomalyMap}
 */
export function reduced(map, side) {
  const by = Math.ceil(Math.max(map.width, map.height) / side);
  if (by <= 1) return map;
  const [width, height] = [Math.ceil(map.width / by), Math.ceil(map.height / by)];
  const values = new Float32Array(width * height).fill(-Infinity);
  for (let y = 0; y < map.height; y++) {
    const row = Math.floor(y / by) * width;
    for (let x = 0; x < map.width; x++) {
      const at = row + Math.floor(x / by);
      const value = map.values[y * map.width + x];
      if (value > values[at]) values[at] = value;
    }
  }
  return { values, width, height };
}

function pause() {
  return new Promise((resolve) => setTimeout(resolve));
}
