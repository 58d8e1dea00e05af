// @ts-check
// Pictures of a photo and its heatmap: small ones for cards, larger ones to keep.

import { coloured, reduced } from './maps.js';

/** @import {AnomalyMap} from './types.js' */

/** Longer side of a thumbnail in pixels. Small photos are enlarged to it. */
const THUMBNAIL = 384;

/** Longer side of a thumbnail's heatmap in pixels: maps are smooth. */
const HEAT = 128;

/** Longest side of a picture to keep, in pixels. */
const KEPT = 2048;

/** Opacity of the heatmap in pictures to keep. */
const OPACITY = 0.55;

/** @typedef {[number, number, number, number]} Box x0, y0, x1, y1 */

/** @type {HTMLCanvasElement | undefined} */
let stripes;

/**
 * Thumbnail of a photo; what was not inspected is grey and hatched.
 * @param {ImageData} preview
 * @param {Box} region inspected part, in pixels of the photo
 * @param {number} width of the photo
 * @param {number} height
 */
export async function thumbnail(preview, region, width, height) {
  const scale = THUMBNAIL / Math.max(width, height);
  const size = { resizeWidth: sized(width, scale), resizeHeight: sized(height, scale) };
  const bitmap = await createImageBitmap(preview, { ...size, resizeQuality: scale < 1 ? 'medium' : 'pixelated' });
  const { canvas, context } = canvasOf(bitmap.width, bitmap.height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const [across, down] = [canvas.width / width, canvas.height / height];
  hatch(context, canvas.width, canvas.height, [region[0] * across, region[1] * down, region[2] * across, region[3] * down]);
  return canvas.convertToBlob({ type: 'image/jpeg', quality: 0.85 });
}

/**
 * Small heatmap with transparency.
 * @param {AnomalyMap} map
 * @param {Uint8ClampedArray} palette
 * @param {number} middle value of the colour in the middle
 */
export function heatThumbnail(map, palette, middle) {
  const image = coloured(reduced(map, HEAT), palette, middle);
  return canvasOfImage(image).convertToBlob({ type: 'image/png' });
}

/**
 * The detector's reduced copy of a photo, for photos that the browser does not read as the detector does.
 * @param {ImageData} preview
 */
export function copy(preview) {
  return canvasOfImage(preview).convertToBlob({ type: 'image/jpeg', quality: 0.92 });
}

/**
 * Heatmap alone, or over its photo, as PNG with a longer side of at most 2048 pixels.
 * @param {ImageBitmap | null} photo
 * @param {ImageData} heat
 * @param {Box} region
 * @param {number} width of the photo
 * @param {number} height
 */
export function picture(photo, heat, region, width, height) {
  const scale = Math.min(1, KEPT / Math.max(width, height));
  const { canvas, context } = canvasOf(sized(width, scale), sized(height, scale));
  const [across, down] = [canvas.width / width, canvas.height / height];
  const [x0, y0, x1, y1] = [region[0] * across, region[1] * down, region[2] * across, region[3] * down];
  if (photo) {
    context.drawImage(photo, 0, 0, canvas.width, canvas.height);
    context.globalAlpha = OPACITY;
  }
  context.drawImage(canvasOfImage(heat), x0, y0, x1 - x0, y1 - y0);
  context.globalAlpha = 1;
  if (photo) hatch(context, canvas.width, canvas.height, [x0, y0, x1, y1]);
  return canvas.convertToBlob({ type: 'image/png' });
}

/**
 * Makes what lies outside of a box grey and hatched.
 * @param {CanvasRenderingContext2D | OffscreenCanvasRenderingContext2D} context
 * @param {number} width
 * @param {number} height
 * @param {Box} box
 */
export function hatch(context, width, height, [x0, y0, x1, y1]) {
  if (x0 <= 0 && y0 <= 0 && x1 >= width && y1 >= height) return;
  const border = new Path2D();
  border.rect(0, 0, width, height);
  border.rect(x0, y0, x1 - x0, y1 - y0);
  context.save();
  context.clip(border, 'evenodd');
  context.globalCompositeOperation = 'saturation';
  context.fillStyle = 'grey';
  context.fillRect(0, 0, width, height);
  context.globalCompositeOperation = 'source-over';
  const pattern = context.createPattern(tile(), 'repeat');
  // About the same width on the screen for every size of photo.
  pattern?.setTransform(new DOMMatrix().scale(Math.max(width, height) / 480));
  context.fillStyle = pattern ?? 'grey';
  context.fillRect(0, 0, width, height);
  context.restore();
}

/** @param {ImageData} image */
export function canvasOfImage(image) {
  const { canvas, context } = canvasOf(image.width, image.height);
  context.putImageData(image, 0, 0);
  return canvas;
}

/**
 * A canvas in main memory: it is read back at once, or drawn once.
 * @param {number} width
 * @param {number} height
 */
function canvasOf(width, height) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext('2d', { willReadFrequently: true });
  if (!context) throw new Error('the browser has no memory for pictures: close other pages');
  return { canvas, context };
}

/**
 * @param {number} length
 * @param {number} scale
 */
const sized = (length, scale) => Math.max(1, Math.round(length * scale));

/** Tile of diagonal stripes. */
function tile() {
  if (stripes) return stripes;
  const side = 12;
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = side;
  const context = canvas.getContext('2d');
  if (context) {
    context.fillStyle = 'rgb(110 110 116 / 55%)';
    context.fillRect(0, 0, side, side);
    context.strokeStyle = 'rgb(205 205 212 / 60%)';
    context.lineWidth = side / 3.2;
    context.beginPath();
    for (const start of [-side, 0, side]) {
      context.moveTo(start - 2, side + 2);
      context.lineTo(start + side + 2, -2);
    }
    context.stroke();
  }
  stripes = canvas;
  return canvas;
}
