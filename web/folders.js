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

/** By name, numbers by their value. */
const { compare } = new Intl.Collator('en', { numeric: true });

/**
 * Files of a drop. Must be called while the event is dispatched: afterwards it holds nothing.
 * @param {DataTransfer} data
 * @returns {Promise<Arrived[]>} in the order of the drop; in folders by name
 */
export function droppedFiles({ items, files }) {
  const whole = [...files].map(single);
  const entries = [...items].map((item) => (item.kind === 'file' ? item.webkitGetAsEntry?.() : null)).filter((entry) => !!entry);
  if (!entries.some((entry) => entry.isDirectory)) return Promise.resolve(whole);
  return Promise.all(entries.map((entry) => walk(entry))).then((found) => found.flat().slice(0, MOST));
}

/**
 * Files that were chosen, one by one or as a folder.
 * @param {Iterable<File>} files
 * @returns {Arrived[]}
 */
export function chosenFiles(files) {
  const arrived = [...files].map((file) => {
    const path = file.webkitRelativePath;
    return path ? { file: named(file, path), path, inFolder: true } : single(file);
  });
  if (arrived.some(({ inFolder }) => inFolder)) arrived.sort((a, b) => compare(a.path, b.path));
  return arrived.filter(({ path }) => !hidden(path)).slice(0, MOST);
}

/** @param {File} file @returns {Arrived} */
const single = (file) => ({ file, path: file.name, inFolder: false });

/**
 * All files below an entry.
 * @param {FileSystemEntry} entry
 * @returns {Promise<Arrived[]>}
 */
async function walk(entry) {
  const path = entry.fullPath.replace(/^\//, '');
  if (hidden(path)) return [];
  if (entry.isFile) {
    /** @type {File} */
    const file = await new Promise((resolve, reject) => /** @type {FileSystemFileEntry} */ (entry).file(resolve, reject));
    const inFolder = path.includes('/');
    return [{ file: inFolder ? named(file, path) : file, path, inFolder }];
  }
  const children = await read(/** @type {FileSystemDirectoryEntry} */ (entry).createReader());
  children.sort((a, b) => compare(a.name, b.name));
  /** @type {Arrived[]} */
  const found = [];
  for (const child of children) {
    // What cannot be read, such as a file that is gone, is no reason to take nothing.
    found.push(...(await walk(child).catch(() => [])));
    if (found.length >= MOST) break;
  }
  return found;
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
