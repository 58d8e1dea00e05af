// @ts-check
// Formats of photos: which ones the detector reads, and what else the browser can decode for it.

/** Names of photos, for files in folders and archives, where much else may be. */
const PHOTO = /\.(png|jpe?g|jpe|jfif|webp|tiff?|bmp|gif|avif|heic|heif|jxl)$/i;

/** Photos that the browser decoded: their formats, and the files as they arrived. @type {WeakMap<File, {format: string, from: File}>} */
const decoded = new WeakMap();

/** @param {string} name */
export function isPhotoName(name) {
  return PHOTO.test(name);
}

/**
 * What the browser did to a photo for the detector; null if nothing.
 * @param {File} file
 */
export function noteOn(file) {
  const known = decoded.get(file);
  return known ? `${known.format}, decoded by the browser` : null;
}

/**
 * A photo's file as it arrived.
 * @param {File} file
 */
export function arrivedAs(file) {
  return decoded.get(file)?.from ?? file;
}

/**
 * A photo as the detector reads it: the file itself, or a PNG of what the browser decodes.
 * @param {File} file
 * @returns {Promise<File>}
 * @throws one sentence, which does not name the file
 */
export async function readable(file) {
  const head = new Uint8Array(await file.slice(0, 16).arrayBuffer().catch(() => {
    throw new Error('cannot be read: it may have been moved');
  }));
  if (head.length === 0) throw new Error('is empty');
  if (isRead(head)) return file;
  const format = nameOf(head);
  const png = await decode(file);
  if (png) {
    decoded.set(png, { format: format ?? 'A format that the detector does not read', from: file });
    return png;
  }
  if (format === 'HEIC') throw new Error('is HEIC, which this browser does not decode: convert it to JPEG or PNG, or open this page in Safari');
  if (format) throw new Error(`is ${format}, which this browser does not decode: convert it to PNG or JPEG`);
  throw new Error('is no photo: PNG, JPEG, WebP, TIFF and BMP are read, AVIF, GIF and HEIC where the browser decodes them');
}

/** Whether the detector reads this format. @param {Uint8Array} head */
function isRead(head) {
  const text = String.fromCharCode(...head);
  return text.startsWith('\x89PNG') || text.startsWith('\xff\xd8\xff') || text.startsWith('BM') || /^(II[*+]\0|MM\0[*+])/.test(text) ||
    (text.startsWith('RIFF') && text.slice(8, 12) === 'WEBP');
}

/** @param {Uint8Array} head */
function nameOf(head) {
  const text = String.fromCharCode(...head);
  if (text.startsWith('GIF8')) return 'GIF';
  if (text.startsWith('\0\0\0\x0cJXL ') || text.startsWith('\xff\x0a')) return 'JPEG XL';
  const brand = text.slice(4, 8) === 'ftyp' ? text.slice(8, 12) : '';
  if (/^avi[fs]$/.test(brand)) return 'AVIF';
  return /^(he[iv][cxms]|mif1|msf1)$/.test(brand) ? 'HEIC' : undefined;
}

/**
 * @param {File} file
 * @returns {Promise<File | undefined>} undefined if the browser cannot
 */
async function decode(file) {
  const bitmap = await createImageBitmap(file).catch(() => undefined);
  if (!bitmap) return undefined;
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  canvas.getContext('2d')?.drawImage(bitmap, 0, 0);
  bitmap.close();
  const png = await canvas.convertToBlob({ type: 'image/png' }).catch(() => undefined);
  return png ? new File([png], file.name, { type: 'image/png', lastModified: file.lastModified }) : undefined;
}
