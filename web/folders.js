// @ts-check
// Files of a drop or a folder picker, those in dropped folders included.

/** Most files that are taken at a time. */
const MOST = 20_000;

/**
 * A file that arrived.
 * @typedef {object} Arrived
 * @property {File} file
 * @property {string} path its name, with the folders that it was in, if any
 * @property {boolean} inFolder
 */

/**
 * What arrived, and how many files could not be read, or were too many.
 * @typedef {{files: Arrived[], unread: number, excess: number}} Arrival
 */

/** By name, numbers by their value. */
const { compare } = new Intl.Collator('en', { numeric: true });

/**
 * Files of a drop. Must be called while the event is dispatched: afterwards it holds nothing.
 * @param {DataTransfer} data
 * @returns {Promise<Arrival>} in the order of the drop; in folders by name
 */
export function droppedFiles({ items, files }) {
  const whole = [...files].map(single);
  const entries = [...items].map((item) => (item.kind === 'file' ? item.webkitGetAsEntry?.() : null)).filter((entry) => !!entry);
  return entries.some((entry) => entry.isDirectory) ? walkAll(entries) : Promise.resolve(bounded(whole));
}

/** @param {FileSystemEntry[]} entries */
async function walkAll(entries) {
  /** @type {Arrived[]} */
  const found = [];
  let unread = 0;
  for (const entry of entries) unread += await walk(entry, found);
  return { ...bounded(found), unread };
}

/** @param {Arrived[]} files @returns {Arrival} */
function bounded(files) {
  return { files: files.slice(0, MOST), unread: 0, excess: Math.max(0, files.length - MOST) };
}

/**
 * Files that were chosen, one by one or as a folder.
 * @param {Iterable<File>} files
 * @returns {Arrival}
 */
export function chosenFiles(files) {
  const arrived = [...files].map((file) => {
    const path = file.webkitRelativePath;
    return path ? { file: named(file, path), path, inFolder: true } : single(file);
  });
  if (arrived.some(({ inFolder }) => inFolder)) arrived.sort((a, b) => compare(a.path, b.path));
  return bounded(arrived.filter(({ path, inFolder }) => !(inFolder && hidden(path))));
}

/** @param {File} file @returns {Arrived} */
const single = (file) => ({ file, path: file.name, inFolder: false });

/**
 * Finds all files below an entry. What cannot be read, such as a file that is gone, is no reason to take nothing.
 * @param {FileSystemEntry} entry
 * @param {Arrived[]} found
 * @returns {Promise<number>} number of entries that cannot be read
 */
async function walk(entry, found) {
  const path = entry.fullPath.replace(/^\//, '');
  const inFolder = path.includes('/');
  if (inFolder && hidden(path)) return 0;
  try {
    if (entry.isFile) {
      /** @type {File} */
      const file = await new Promise((resolve, reject) => /** @type {FileSystemFileEntry} */ (entry).file(resolve, reject));
      found.push({ file: inFolder ? named(file, path) : file, path, inFolder });
      return 0;
    }
    const children = await read(/** @type {FileSystemDirectoryEntry} */ (entry).createReader());
    children.sort((a, b) => compare(a.name, b.name));
    let unread = 0;
    for (const child of children) unread += await walk(child, found);
    return unread;
  } catch {
    return 1;
  }
}

/**
 * All entries of a folder: browsers give a hundred at a time.
 * @param {FileSystemDirectoryReader} reader
 */
async function read(reader) {
  /** @type {FileSystemEntry[]} */
  const all = [];
  for (;;) {
    /** @type {FileSystemEntry[]} */
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return all;
    all.push(...some);
  }
}

/** The same file under the name of its path: different folders have photos of the same name. @param {File} file @param {string} path */
function named(file, path) {
  return new File([file], path, { type: file.type, lastModified: file.lastModified });
}

/** @param {string} path */
function hidden(path) {
  return path.split('/').some((part) => part.startsWith('.'));
}
