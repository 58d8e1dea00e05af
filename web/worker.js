// @ts-check
/// <reference lib="webworker" />
// Worker of the detector: one model on one device. Its memory is freed with it when another model is chosen.

import { Store, obtain } from './download.js';
import { LIMITS, named, unreachable, unusable, within } from './limits.js';
import { moduleFor } from './modules.js';
import { parse } from './site.js';

/** @import {Description, DeviceChoice, EncoderEntry, FileListed, Index, Made, Message, ModelEntry, Module, Request} from './types.js' */
/** @import {Detector} from './wasm/cpu.js' */

/** Number of parallel downloads. */
const PARALLEL = 4;

/** @type {Detector | undefined} */
let detector;

// Requests overlap: while a GPU computes one photo, the next is decoded. On the CPU each runs to its end.
self.addEventListener('message', (/** @type {MessageEvent<Request>} */ event) => void answer(event.data));
say({ kind: 'started' });

/** @param {Request} request */
async function answer(request) {
  try {
    const value = await perform(request);
    say({ kind: 'answer', id: request.id, value }, transferable(value));
  } catch (error) {
    const { name, message } = told(error);
    say({ kind: 'refusal', id: request.id, name, message });
  }
}

/**
 * The error for the page: our own, or a sentence in place of the engine's message.
 * @param {unknown} error
 */
function told(error) {
  // Our own are of the plain class.
  if (error instanceof Error && error.constructor === Error) {
    // It goes on with the browser's words.
    return named(error.name, error.message.replace(/^webgpu: the GPU was lost.*/s, 'the GPU was lost: try again, or choose the processor'));
  }
  console.warn('the detector failed:', error);
  // After a trap, such as out of memory, the module cannot go on.
  if (error instanceof WebAssembly.RuntimeError) return named('Crash', 'the detector stopped');
  if (error instanceof RangeError) return named('Memory', 'the memory is not enough: close other pages, or choose a smaller model');
  return named('Unexpected', 'the detector failed in an unexpected way: try again, or load the page again');
}

/** @param {Request} request */
async function perform(request) {
  if (request.kind === 'make') {
    if (request.device === 'auto') await demandRealGpu();
    return makeModel(request);
  }
  if (request.kind === 'open') {
    if (request.device !== 'auto') return load(request);
    const adapter = `${await demandRealGpu()} ${request.model.id} ${request.index.modules.gpu?.wasm}`;
    const times = request.times[adapter];
    if (times && times.processor < times.gpu) {
      throw unusable(`a photo takes ${milliseconds(times.gpu)} on it, and ${milliseconds(times.processor)} on the processor`);
    }
    const description = await load(request);
    Object.assign(description.device, { adapter, times });
    return description;
  }
  // As after the loss of a device, the page opens the model again.
  if (!detector) throw unusable('no model is open');
  if (request.kind === 'detect') {
    const { name, pixels } = request;
    const bytes = new Uint8Array(request.bytes);
    const detection = await (pixels ? detector.detectPixels(name, bytes, pixels.width, pixels.height) : detector.detect(name, bytes));
    // Part of the same answer, because a later request would wait for the next photo.
    const regions = detector.regions(detection.map, detection.mapWidth, detection.region, request.class ?? detection.nearest ?? undefined);
    return { ...detection, regions };
  }
  if (request.kind === 'regions') {
    const { map, region } = request;
    return detector.regions(map.values, map.width, region, request.class ?? undefined);
  }
  if (request.kind === 'profile') return detector.startProfile();
  if (request.kind === 'kernels') return detector.kernelTimes();
  return detector.colours(request.map, request.class ?? undefined);
}

/** Name of the GPU. Refuses if there is no real one, before anything is downloaded for it. */
async function demandRealGpu() {
  const { gpu } = /** @type {any} */ (navigator);
  /** @type {Promise<any> | undefined} */
  const asked = gpu?.requestAdapter({ powerPreference: 'high-performance' }).catch(() => null);
  // Some drivers, and machines without a screen, never answer.
  const adapter = asked && (await within(asked, LIMITS.adapter, () => {
    throw unusable('the browser did not say in time which GPU there is');
  }));
  if (!adapter) throw unusable('no GPU was found: this browser has no WebGPU, or it is switched off');
  if (adapter.info?.isFallbackAdapter) {
    throw unusable('the browser only emulates a GPU, which is slower than the CPU itself');
  }
  const { vendor, architecture, device, description } = adapter.info ?? {};
  return [vendor, architecture, device, description].join(' ');
}

/**
 * Downloads the device's module, unless it is cached, and starts it.
 * @param {(path: string) => string} url
 * @param {Module} half
 * @param {Store} store
 * @param {(bytes: number) => void} grew
 * @param {(milliseconds: number) => void} compiled
 */
async function startModule(url, half, store, grew, compiled) {
  const late = () => {
    throw unreachable('the detector could not be downloaded: check the connection');
  };
  const glue = await within(import(/* @vite-ignore */ /* webpackIgnore: true */ url(half.glue)).catch(late), LIMITS.server, late);
  await obtain(store, url(half.wasm), 'the detector', grew, async (bytes) => {
    const fetched = performance.now();
    await unpacked(bytes).then((module) => glue.default({ module_or_path: module })).catch(notAModule);
    compiled(performance.now() - fetched);
  });
  return /** @type {typeof import('./wasm/cpu.js')} */ (glue);
}

/**
 * Content of a file that may be packed. Some hosts tell the browser to unpack it, so its name does not say.
 * @param {Uint8Array<ArrayBuffer>} bytes
 */
async function unpacked(bytes) {
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/**
 * The device's module on this site.
 * @param {DeviceChoice} device
 * @param {boolean} plain
 * @param {Index} index
 */
function halfFor(device, plain, index) {
  const half = moduleFor(device, plain, index.modules);
  // As in `dinomaly demo` until it is built.
  if (!half) throw unusable('this site has no module for the graphics processor yet: load the page again in some minutes');
  return half;
}

/**
 * Makes a model of photos of good parts, on the encoder of another model.
 * @param {Extract<Request, {kind: 'make'}>} request
 * @returns {Promise<Made>}
 */
async function makeModel({ base, index, model, device, tuning, name, photos }) {
  const url = (/** @type {string} */ path) => new URL(path, base).href;
  const store = await Store.open();
  const { FewShot, openDevice } = await startModule(url, halfFor(device, false, index), store, () => {}, () => {});
  const maker = new FewShot(await contentOf(model, 'manifest.json', () => url(model.manifest), store, () => {}, (bytes) => bytes));
  maker.useDevice(await within(openDevice(tuning ?? undefined), LIMITS.device, silent));
  /** @type {FileListed[]} */
  const files = maker.files();
  for (const file of files) {
    const { name } = file;
    maker.add(name, await contentOf(model, name, () => pathOf(model, name, url), store, () => {}, (bytes) => (maker.verify(name, bytes), bytes)));
  }
  maker.start(undefined);
  for (const [i, photo] of photos.entries()) {
    say({ kind: 'progress', progress: { phase: 'encode', loaded: i, total: photos.length } });
    const bytes = await photo.file.arrayBuffer().catch(() => {
      throw new Error(`photo ${photo.file.name}: cannot be read: it may be a folder, or was moved`);
    });
    await within(maker.addPhoto(photo.file.name, new Uint8Array(bytes), photo.product), LIMITS.photo, silent);
  }
  return within(maker.make(name), LIMITS.photo, silent);
}

/**
 * A model's file: its own if it was made here, came as a zip or was read before, else from the cache or the site.
 * @template T
 * @param {EncoderEntry} model
 * @param {string} name
 * @param {() => string} address on the site
 * @param {Store} store
 * @param {(bytes: number) => void} grew
 * @param {(content: Uint8Array<ArrayBuffer>) => T} take throws if the content is wrong
 * @returns {Promise<T>}
 */
async function contentOf(model, name, address, store, grew, take) {
  const own = model.made?.[name];
  if (!own && (!model.made || model.files[name])) return obtain(store, address(), name === 'manifest.json' ? name : `model file ${name}`, grew, take);
  if (!own) throw new Error(`model file ${name} is missing: save or pack the whole model again`);
  const content = new Uint8Array(await own.arrayBuffer());
  grew(content.length);
  return take(content);
}

/**
 * Address of a model's file.
 * @param {EncoderEntry} model
 * @param {string} name
 * @param {(path: string) => string} url
 */
function pathOf(model, name, url) {
  const path = model.files[name];
  if (!path) throw new Error(`model file ${name}: models.json does not list it: write the site again`);
  return url(path);
}

/**
 * Downloads the device's module and the model, except for cached files, and starts the model. Weights are uploaded to the device as
 * they arrive.
 * @param {{base: string, index: Index, model: ModelEntry, device: DeviceChoice, plain: boolean, tuning: string | null}} request
 * @returns {Promise<Description>}
 */
async function load({ base, index, model, device, plain, tuning }) {
  const url = (/** @type {string} */ path) => new URL(path, base).href;
  const half = halfFor(device, plain, index);
  const total = half.bytes + model.bytes;
  let loaded = 0;
  const grew = (/** @type {number} */ bytes) => {
    loaded += bytes;
    say({ kind: 'progress', progress: { phase: 'download', loaded: Math.min(loaded, total), total } });
  };

  const began = performance.now();
  const store = await Store.open();
  let compile = 0;
  const [{ Detector, openDevice }, manifest] = await Promise.all([
    startModule(url, half, store, grew, (milliseconds) => (compile = milliseconds)),
    contentOf(model, 'manifest.json', () => url(model.manifest), store, () => {}, (bytes) => (parse('manifest.json', new TextDecoder().decode(bytes)), bytes)),
  ]);
  const opened = new Detector(manifest);
  /** @type {FileListed[]} */
  const files = opened.files();
  const fetchAll = async (/** @type {FileListed[]} */ wanted, /** @type {Promise<unknown>} */ ready, /** @type {typeof grew} */ count) => {
    // Its failure is handled where it is awaited.
    ready.catch(() => {});
    const queue = [...wanted];
    const lane = async () => {
      for (let file = queue.shift(); file; file = queue.shift()) {
        const { name } = file;
        const content = await contentOf(model, name, () => pathOf(model, name, url), store, count, (bytes) => (opened.verify(name, bytes), bytes));
        await ready;
        opened.add(name, content);
      }
    };
    await Promise.all(Array.from({ length: PARALLEL }, lane)).catch((error) => {
      // The other lanes need not go on.
      queue.length = 0;
      throw error;
    });
  };
  const weights = files.filter((file) => file.weights);
  // The device is opened while the files arrive.
  const opening = within(openDevice(tuning ?? undefined), LIMITS.device, silent).then((device) => opened.useDevice(device));
  const described = fetchAll(files.filter((file) => !file.weights), Promise.resolve(), grew);
  await Promise.all([opening, described, fetchAll(weights, Promise.all([opening, described]), grew)]);
  const download = performance.now() - began;
  const modules = Object.values(index.modules).map(({ wasm }) => wasm);
  const needed = [...index.models, ...index.encoders].flatMap(({ files, manifest }) => [manifest, ...Object.values(files)]);
  const samples = index.samples.map(({ path }) => path);
  const folder = new URL('.', url(model.manifest)).href;
  await store.retain(url('.'), new Set([...modules, ...needed, ...samples].map(url)), folder);
  say({ kind: 'progress', progress: { phase: 'prepare', loaded: total, total } });
  const start = () => within(opened.start(), LIMITS.selfTest, silent);
  /** @type {Description | undefined} */
  let description = await start();
  while (!description) {
    // The next precision needs the weights again, usually from the cache.
    await fetchAll(weights, Promise.resolve(), () => {});
    description = await start();
  }
  detector = opened;
  Object.assign(description.timings, { download, compile });
  return description;
}

/**
 * The module was cut off, or its two files do not belong together. Else it is for the browser to say.
 * @param {Error} error
 */
function notAModule(error) {
  const { CompileError, LinkError } = WebAssembly;
  if (![CompileError, LinkError, TypeError].some((type) => error instanceof type)) throw error;
  throw unusable('the detector was altered, or belongs to another version: load the page again, or write the site again');
}

/** @param {number} time */
const milliseconds = (time) => `${time.toFixed(0)} ms`;

/** @returns {never} */
function silent() {
  throw unusable('the GPU did not answer in time');
}

/**
 * @param {Message | {kind: 'started'}} message
 * @param {Transferable[]} transfer
 */
function say(message, transfer = []) {
  self.postMessage(message, { transfer });
}

/**
 * Parts of an answer that can be transferred instead of copied.
 * @param {any} value
 * @returns {Transferable[]}
 */
function transferable(value) {
  const made = (value?.files ?? []).map((/** @type {{content: Uint8Array}} */ { content }) => content);
  const parts = [value, value?.map, value?.preview, ...made];
  return parts.filter((part) => ArrayBuffer.isView(part)).map((part) => part.buffer);
}
