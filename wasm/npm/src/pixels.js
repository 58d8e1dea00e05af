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

const NO_PHOTO = 'it is no Blob, ImageData, ImageBitmap, image, video or canvas, or that of another frame';

const FOREIGN =
  'the browser does not give pixels from another origin to this page: set crossorigin="anonymous" on the element, and let the server allow it';

/** @param {any} photo @returns {photo is HTMLImageElement} not by its class, which workers lack, and of which another frame has its own */
const isImage = (photo) => photo?.naturalWidth !== undefined;

/** @param {any} photo @returns {photo is HTMLVideoElement} */
const isVideo = (photo) => photo?.videoWidth !== undefined;

/**
 * @param {BrowserPhoto} photo
 * @param {string} [name]
 * @returns {Promise<Source>}
 */
export async function photoOf(photo, name) {
  if (photo instanceof Blob) return ofFile(photo, name);
  if (photo instanceof ImageData) return ofImageData(photo, name);
  if (isImage(photo)) return ofImage(photo, name);
  return ofPixels(drawn(photo, name), name);
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
function ofImageData({ data, width, height }, name) {
  if (!(data instanceof Uint8ClampedArray)) throw refused(name, 'the ImageData has no values of 8 bits: make it with pixelFormat "rgba-unorm8"');
  // Copied at once, because the caller may use its ImageData again.
  return ofPixels({ data: data.slice(), width, height }, name);
}

/**
 * @param {{data: Uint8ClampedArray<ArrayBuffer>, width: number, height: number}} pixels
 * @param {string} [name]
 * @returns {Source}
 */
function ofPixels({ data, width, height }, name = UNNAMED) {
  // A copy for each try, because it is handed over to the worker.
  return { name, pixels: { width, height }, arrayBuffer: async () => data.slice().buffer };
}

/**
 * An <img> is decoded when its turn comes, since many may wait.
 * @param {HTMLImageElement} image
 * @param {string} [name]
 * @returns {Promise<Source>}
 */
async function ofImage(image, name) {
  await image.decode().catch(() => {
    throw refused(name, 'the picture of the <img> cannot be loaded or decoded');
  });
  const { currentSrc } = image;
  /** @type {Source} */
  const source = {
    name: name ?? UNNAMED,
    pixels: { width: image.naturalWidth, height: image.naturalHeight },
    arrayBuffer: async () => {
      if (image.currentSrc !== currentSrc) {
        throw refused(name, 'the <img> has another picture now: change it after its result, or hand over `await createImageBitmap(image)`');
      }
      // It has the picture's own size: naturalWidth is what a srcset makes of it. A drawing may have no size of its own.
      const bitmap = await createImageBitmap(image).catch(() => undefined);
      const { data, width, height } = drawn(bitmap ?? image, name);
      bitmap?.close();
      source.pixels = { width, height };
      return data.buffer;
    },
  };
  return source;
}

/**
 * @param {Exclude<BrowserPhoto, Blob | ImageData>} photo
 * @param {string} [name]
 */
function drawn(photo, name) {
  const [width, height] = sizeOf(photo);
  if (width === undefined) throw refused(name, NO_PHOTO);
  if (!width || !height) {
    throw refused(name, isVideo(photo) ? 'the video has no picture yet: wait for its event "loadeddata"' : 'it has no pixels');
  }
  try {
    const context = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
    if (!context) throw new RangeError();
    context.drawImage(photo, 0, 0);
    return context.getImageData(0, 0, width, height);
  } catch (error) {
    switch (/** @type {Error} */ (error).name) {
      case 'TypeError': throw refused(name, NO_PHOTO);
      case 'SecurityError': throw refused(name, FOREIGN);
      default: throw refused(name, 'the browser has no memory for its pixels: use a smaller picture');
    }
  }
}

/**
 * @param {Exclude<BrowserPhoto, Blob | ImageData>} photo
 * @returns {[number | undefined, number]}
 */
function sizeOf(photo) {
  if (isImage(photo)) return [photo.naturalWidth, photo.naturalHeight];
  if (isVideo(photo)) return [photo.videoWidth, photo.videoHeight];
  return [photo?.width, photo?.height];
}

/**
 * @param {string | undefined} name
 * @param {string} reason
 */
const refused = (name, reason) => new Error(`photo ${name ?? UNNAMED}: ${reason}`);
