// @ts-check
// Photos of a page: files, and all that has pixels.

import { readable } from './formats.js';

/** @import {Source} from './types.js' */

/**
 * A photo's file, or decoded pixels. Their alpha is dropped.
 * @typedef {Blob | ImageData | ImageBitmap | HTMLImageElement | HTMLVideoElement | HTMLCanvasElement | OffscreenCanvas} BrowserPhoto
 */

/** Name of what has none. */
const UNNAMED = '(unnamed)';

/**
 * @param {BrowserPhoto} photo
 * @param {string} [name]
 * @returns {Promise<Source>}
 */
export async function photoOf(photo, name) {
  if (photo instanceof Blob) return ofFile(photo, name);
  if (photo instanceof ImageData) return ofImageData(photo, name);
  if (photo instanceof HTMLImageElement) {
    await photo.decode().catch(() => {
      throw refused(name, 'the picture of the <img> cannot be loaded or decoded');
    });
  }
  return ofImageData(drawn(photo, name), name);
}

/**
 * A file as the detector reads it; what only the browser decodes is decoded by it.
 * @param {Blob} blob
 * @param {string} [name]
 * @returns {Promise<Source>}
 */
async function ofFile(blob, name) {
  const file = blob instanceof File && name === undefined ? blob : new File([blob], name ?? UNNAMED);
  const read = await readable(file).catch((error) => {
    throw new Error(`photo ${file.name} ${error.message}`);
  });
  return { name: file.name, arrayBuffer: () => read.arrayBuffer() };
}

/**
 * @param {ImageData} image
 * @param {string} [name]
 * @returns {Source}
 */
function ofImageData({ data, width, height }, name = UNNAMED) {
  if (!(data instanceof Uint8ClampedArray)) throw refused(name, 'the ImageData has no values of 8 bits: make it with pixelFormat "rgba-unorm8"');
  // Copied at once, because the caller may use its ImageData again; and for each try, because a copy is handed over to the worker.
  const copy = data.slice();
  return { name, pixels: { width, height }, arrayBuffer: async () => copy.slice().buffer };
}

/**
 * @param {Exclude<BrowserPhoto, Blob | ImageData>} photo
 * @param {string} [name]
 */
function drawn(photo, name) {
  const [width, height] = sizeOf(photo);
  if (width === undefined) throw refused(name, 'it is no Blob, ImageData, ImageBitmap, image, video or canvas');
  if (!width || !height) {
    throw refused(name, photo instanceof HTMLVideoElement ? 'the video has no picture yet: wait for its event "loadeddata"' : 'it has no pixels');
  }
  try {
    const context = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
    if (!context) throw new RangeError();
    context.drawImage(photo, 0, 0);
    return context.getImageData(0, 0, width, height);
  } catch (error) {
    if (/** @type {Error} */ (error).name !== 'SecurityError') throw refused(name, 'the browser has no memory for its pixels: use a smaller picture');
    throw refused(name, 'the browser does not give pixels from another origin to this page: set crossorigin="anonymous" on the element, and let the server allow it');
  }
}

/**
 * @param {Exclude<BrowserPhoto, Blob | ImageData>} photo
 * @returns {[number | undefined, number]}
 */
function sizeOf(photo) {
  if (photo instanceof HTMLImageElement) return [photo.naturalWidth, photo.naturalHeight];
  if (photo instanceof HTMLVideoElement) return [photo.videoWidth, photo.videoHeight];
  return [photo?.width, photo?.height];
}

/**
 * @param {string | undefined} name
 * @param {string} reason
 */
const refused = (name, reason) => new Error(`photo ${name ?? UNNAMED}: ${reason}`);
