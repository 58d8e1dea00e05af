// @ts-check
// Zip archives: their files, each read when it is needed and bounded in size, and new ones.

/** Most files in an archive. */
const MOST = 20_000;

/** Largest file in bytes, unpacked. */
const LARGEST = 1e9;

/** Largest sum of all files in bytes, unpacked. */
const LARGEST_SUM = 16e9;

/**
 * A file in an archive. Nothing is written to a disk, so its path is a name only.
 * @typedef {object} Packed
 * @property {string} path with `/` between folders
 * @property {number} bytes unpacked
 * @property {() => Promise<Blob>} read its content
 */

/** zip.js; few visitors need it. */
async function library() {
  const zip = await import('./zip.js');
  // The page's policy and its cache know nothing of zip.js's worker.
  zip.configure({ useWebWorkers: false });
  return zip;
}

/**
 * Whether a file is a zip archive, by its first bytes.
 * @param {Uint8Array} head
 */
export function isArchive(head) {
  const [p, k, a, b] = head;
  return p === 0x50 && k === 0x4b && ((a === 3 && b === 4) || (a === 5 && b === 6));
}

/**
 * Files of a zip archive. Folders and what systems hide in archives are left out.
 * @param {File} archive
 * @returns {Promise<Packed[]>}
 */
export async function unpack(archive) {
  const { BlobReader, ZipReader } = await library();
  const refuse = (/** @type {string} */ why) => new Error(`${archive.name}: ${why}`);
  /** @type {Packed[]} */
  const files = [];
  let sum = 0;
  try {
    /** @type {AsyncIterable<any>} */
    const entries = new ZipReader(new BlobReader(archive)).getEntriesGenerator();
    for await (const entry of entries) {
      if (entry.directory || hidden(entry.filename)) continue;
      if (entry.encrypted) throw refuse('is protected with a password: unpack it first');
      sum += entry.uncompressedSize;
      if (files.length === MOST || entry.uncompressedSize > LARGEST || sum > LARGEST_SUM) {
        throw refuse(`holds too much: at most ${MOST} files of ${LARGEST / 1e9} GB and ${LARGEST_SUM / 1e9} GB in all are read`);
      }
      const path = entry.filename.replaceAll('\\', '/');
      files.push({ path, bytes: entry.uncompressedSize, read: () => content(archive.name, path, entry) });
    }
  } catch (error) {
    if (error instanceof Error && error.message.startsWith(archive.name)) throw error;
    throw refuse('is damaged, or no zip archive: fetch or pack it again');
  }
  return files;
}

/**
 * Content of an entry; an archive may hold more than it says.
 * @param {string} archive
 * @param {string} path
 * @param {any} entry of zip.js
 * @returns {Promise<Blob>}
 */
async function content(archive, path, entry) {
  let left = entry.uncompressedSize;
  const counted = new TransformStream({
    transform(/** @type {Uint8Array} */ piece, to) {
      left -= piece.length;
      if (left < 0) throw new Error('larger than stated');
      to.enqueue(piece);
    },
  });
  const blob = new Response(counted.readable).blob();
  blob.catch(() => {});
  try {
    await entry.getData(counted.writable, { checkSignature: true });
    return await blob;
  } catch {
    throw new Error(`${archive}: ${path} in it is damaged, or packed in an unknown way: pack it again`);
  }
}

/** @param {string} path */
function hidden(path) {
  return path.split(/[/\\]/).some((part) => part.startsWith('.') || part === '__MACOSX');
}

/**
 * A zip archive of files, which are not compressed: photos and weights hardly shrink. They are taken one by one as they are needed.
 * @param {AsyncIterable<{name: string, content: Blob}> | Iterable<{name: string, content: Blob}>} files
 * @returns {Promise<Blob>}
 */
export async function pack(files) {
  const { BlobReader, BlobWriter, ZipWriter } = await library();
  /** @type {any} */
  const zip = new ZipWriter(new BlobWriter('application/zip'), { level: 0 });
  for await (const { name, content } of files) await zip.add(name, new BlobReader(content));
  return zip.close();
}
