// Reads many changed `models.json` and manifests with the page's own code, and prints for each what became of them.
//
//   cargo page && node tests/fuzz/page.mjs COUNT [--only READER NUMBER]
//
// Texts of a released site get some of their numbers, names and entries changed, as tests/src/mutation does it, and one in ten some
// characters. Each then goes the page's way: web/site.js, and web/worker.js with the detector's module for the processor. Ends with 1 at
// an exception that is not the page's own, a refusal that is no sentence, and a file that takes more than a second; the line names its
// number, and `--only` repeats it alone. MODULES names the folder of the modules, if it is not target/wasm-build/page.

import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { change, Choices } from './json.mjs';

/** Longest time of a file in milliseconds. */
const PATIENCE = 1000;

/** The same until the process is ended, if the file does not give way. */
const STUCK = 20 * PATIENCE;

const root = new URL('../../', import.meta.url);
const released = new URL('tests/fixtures/released/format-1/site/', root);

/** Number of files in one thread: detectors, of which a page opens one, take memory until it ends. */
const BATCH = 2000;

const READERS = ['models.json', 'manifest'];

if (isMainThread) await main();
else parentPort?.postMessage(await batch(workerData));

/** Reads all files, in threads that are ended if nothing is heard from them. */
async function main() {
  const [count, only, reader, number] = process.argv.slice(2);
  if (!(Number(count) > 0) || (only && (only !== '--only' || !READERS.includes(reader) || !number))) {
    console.error(`node tests/fuzz/page.mjs COUNT [--only ${READERS.join('|')} NUMBER]`);
    process.exit(2);
  }
  const modules = process.env.MODULES ?? fileURLToPath(new URL('target/wasm-build/page', root));
  if (!existsSync(`${modules}/cpu_bg.wasm`)) {
    console.error(`${modules} holds no modules: run cargo page`);
    process.exit(2);
  }
  const folder = mkdtempSync(`${tmpdir()}/dinomaly-page-`);
  mkdirSync(`${folder}/wasm`);
  // Not gpu.js: outside of a browser there is no GPU to ask for, not even in vain.
  for (const glue of ['cpu.js', 'relaxed.js']) symlinkSync(`${modules}/${glue}`, `${folder}/wasm/${glue}`);
  process.on('exit', () => rmSync(folder, { recursive: true }));
  const site = pathToFileURL(`${folder}/`).href;
  if (only) {
    const { text, refused } = await thread({ reader, first: Number(number), count: 1, modules, site });
    console.log(`${text}\n${refused ?? 'read'}`);
    return;
  }
  console.log('| reader | first parser | files | past it, % | read, % | longest, ms |\n|---|---|---|---|---|---|');
  for (const reader of READERS) {
    let [past, read, longest] = [0, 0, 0];
    for (let first = 0; first < Number(count); first += BATCH) {
      const result = await thread({ reader, first, count: Math.min(BATCH, Number(count) - first), modules, site });
      past += result.past;
      read += result.read;
      longest = Math.max(longest, result.longest);
    }
    const percent = (/** @type {number} */ part) => Math.round((100 * part) / Number(count));
    console.log(`| ${reader} | JSON | ${count} | ${percent(past)} | ${percent(read)} | ${Math.round(longest)} |`);
  }
}

/**
 * The result of a batch, from a thread of its own.
 * @param {Task} task
 * @returns {Promise<Result>}
 */
function thread(task) {
  return new Promise((resolve) => {
    const worker = new Worker(fileURLToPath(import.meta.url), { workerData: task });
    let number = task.first;
    let done = false;
    const stop = (/** @type {string} */ what) => {
      console.error(`${task.reader}: file ${number} ${what}`);
      process.exit(1);
    };
    const overdue = () => setTimeout(stop, STUCK, 'does not end');
    let timer = overdue();
    worker.on('message', (message) => {
      clearTimeout(timer);
      if (message.fault) stop(message.fault);
      if (message.number === undefined) {
        done = true;
        return resolve(message);
      }
      number = message.number;
      timer = overdue();
    });
    worker.on('error', (error) => stop(`broke off: ${error.stack}`));
    // Nothing is left in it that could answer.
    worker.on('exit', () => done || stop('is never answered'));
  });
}

/**
 * Some files of one reader, numbered from `first`.
 * @typedef {{reader: string, first: number, count: number, modules: string, site: string}} Task
 */

/**
 * How many were JSON still, how many were read, the longest time in milliseconds; of the last file what it was and its refusal.
 * @typedef {{past: number, read: number, longest: number, text: string, refused?: string}} Result
 */

/**
 * @param {Task} task
 * @returns {Promise<Result | {fault: string}>}
 */
async function batch({ reader, first, count, modules, site }) {
  const page = await start(site, modules);
  const isIndex = reader === 'models.json';
  const seed = isIndex ? page.index : page.manifest;
  const attempt = (/** @type {string} */ text) => (isIndex ? page.open(text, page.manifest) : page.open(page.index, text));
  /** @type {Result} */
  const result = { past: 0, read: 0, longest: 0, text: '' };
  for (let number = first; number < first + count; number += 1) {
    parentPort?.postMessage({ number });
    result.text = changed(new Choices(number), seed);
    const once = async () => {
      const [began, busy] = [performance.now(), process.cpuUsage()];
      const refusal = await attempt(result.text).then(() => undefined, (error) => error);
      const { user, system } = process.cpuUsage(busy);
      // Other programs may take the processor meanwhile.
      return { refusal, took: Math.min(performance.now() - began, (user + system) / 1000) };
    };
    let { refusal, took } = await once();
    // Or memory was tidied up.
    if (took > PATIENCE) took = Math.min(took, (await once()).took);
    if (took > PATIENCE) return { fault: `took ${Math.round(took)} ms` };
    const fault = refusal && unlikeASentence(refusal);
    if (fault) return { fault };
    result.longest = Math.max(result.longest, took);
    if (isJson(result.text)) result.past += 1;
    if (!refusal) result.read += 1;
    result.refused = refusal?.message;
  }
  return result;
}

/**
 * A text of valid JSON, changed.
 * @param {Choices} choices
 * @param {string} seed
 */
function changed(choices, seed) {
  const text = JSON.stringify(change(choices, JSON.parse(seed)));
  if (!choices.oneIn(10)) return text;
  const at = choices.below(text.length);
  const put = choices.pick(['', '"', '{', ']', ',', '0', '\\', '\u202e', '\0', '<!doctype html>']);
  return choices.oneIn(2) ? text.slice(0, at) + put : text.slice(0, at) + put + text.slice(at + 1);
}

/** @param {string} text */
function isJson(text) {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/**
 * What is wrong with a refusal; nothing, if the page made it.
 * @param {any} error
 */
function unlikeASentence(error) {
  const { name, message } = error;
  if (!['Error', 'DeviceError', 'NetworkError'].includes(name)) return `threw a ${name}, which is not the page's own: ${error.stack ?? message}`;
  if (typeof message !== 'string' || message.length < 10 || message.length > 30_000) return `was refused with: ${message}`;
  if (/undefined|\[object|NaN/.test(message)) return `was refused with: ${message}`;
}

/**
 * The page's code, whose requests are answered from memory.
 * @param {string} site address of a folder with the modules
 * @param {string} modules their folder
 */
async function start(site, modules) {
  /** @type {(event: {data: any}) => void} */
  let ask = () => {};
  /** @type {Map<number, (message: any) => void>} */
  const waiting = new Map();
  globalThis.self = /** @type {any} */ ({
    addEventListener: (/** @type {string} */ _, /** @type {typeof ask} */ listener) => (ask = listener),
    postMessage: (/** @type {any} */ message) => {
      if (message.kind === 'progress') progress(message.progress);
      else waiting.get(message.id)?.(message);
    },
  });
  const text = (/** @type {string} */ path) => readFileSync(new URL(path, released), 'utf8');
  const index = text('models.json');
  const [{ manifest, files }] = JSON.parse(index).models;
  /** @type {Map<string, Uint8Array<ArrayBuffer>>} */
  const served = new Map(Object.values(files).map((path) => [new URL(path, site).href, new Uint8Array(readFileSync(new URL(path, released)))]));
  for (const name of ['cpu', 'relaxed', 'gpu']) {
    served.set(new URL(`wasm/${name}_bg.wasm`, site).href, new Uint8Array(readFileSync(`${modules}/${name}_bg.wasm`)));
  }
  const manifestUrl = new URL(manifest, site).href;
  globalThis.fetch = async (/** @type {any} */ url) => {
    const bytes = served.get(String(url).replace(/[?#].*/, ''));
    return bytes ? new Response(bytes) : new Response('not found', { status: 404 });
  };
  const { readIndex } = await import(new URL('web/site.js', root).href);
  const { shown } = await import(new URL('web/dom.js', root).href);
  await import(new URL('web/worker.js', root).href);
  let requests = 0;
  const open = async (/** @type {string} */ indexText, /** @type {string} */ manifestText) => {
    served.set(manifestUrl, new TextEncoder().encode(manifestText));
    const read = readIndex(indexText, `${site}index.html`);
    // What the page shows before it opens the first model.
    const [model] = read.models;
    for (const { name, classes } of read.models) [name, ...classes].forEach(shown);
    for (const { name } of read.samples) shown(name);
    const id = (requests += 1);
    const answer = new Promise((resolve) => waiting.set(id, resolve));
    ask({ data: structuredClone({ kind: 'open', id, base: `${site}index.html`, index: read, model, device: 'wasm', tuning: null }) });
    const message = await answer;
    waiting.delete(id);
    if (message.kind === 'refusal') throw message;
    return message.value;
  };
  await open(index, text(manifest)).catch((error) => {
    throw new Error(`the released site itself cannot be opened (${error.message}): build the modules with cargo page`);
  });
  return { index, manifest: text(manifest), open };
}

/**
 * As the page's bar takes it, which throws at what is no number.
 * @param {{loaded: number, total: number}} progress
 */
function progress({ loaded, total }) {
  if (!Number.isFinite(loaded / total)) throw new TypeError(`the bar cannot show ${loaded} of ${total} bytes`);
}
