// @ts-check
// The page: choice of model and device, and its status.

import { Choice } from './choice.js';
import { byId, make, sentence, shown } from './dom.js';
import { fetchBytes } from './download.js';
import { timeBoth } from './fastest.js';
import { chosenFiles } from './folders.js';
import { Gallery } from './gallery.js';
import { Intake } from './intake.js';
import { LIMITS, within } from './limits.js';
import { Pool } from './pool.js';
import { offerSamples } from './samples.js';
import { Session } from './session.js';
import { readIndex } from './site.js';
import { offerUndo } from './undo.js';
import { fromCache, prepareNextVisit } from './visits.js';
import { offerWays, withdrawWays } from './ways.js';

/** @import {Description, DeviceChoice, Index, Judged, ModelEntry, Progress} from './types.js' */

// It says why the page does not start, which it does.
byId('unstarted', HTMLDivElement).remove();
const page = document.documentElement;
page.dataset.state = 'loading';
const models = byId('model', HTMLSelectElement);
const devices = byId('device', HTMLSelectElement);
const bar = byId('progress', HTMLProgressElement);
const more = byId('status-more', HTMLParagraphElement);

const gallery = new Gallery(ready);
/** @type {Pool | undefined} */
let detector;

// Look for a newer page early, but on a first visit only after the model has loaded.
if (fromCache) prepareNextVisit();
/** What photos are judged by now. @type {Judged} */
let judging = { model: '', hash: '', program: null };
const session = new Session(() => gallery.results(), () => gallery.pending(), () => judging);
const restored = session.restore((rows) => gallery.restore(rows));
/** @type {Promise<void> | undefined} */
let exporting;
byId('export', HTMLDetailsElement).addEventListener('toggle', () => {
  exporting ??= import('./export.js').then(({ Export }) => void new Export(() => gallery.results(), (id) => session.judged(id), () => gallery.showAll()), () => {
    exporting = undefined;
    byId('export-said', HTMLParagraphElement).textContent = 'The menu could not be loaded: check the connection, and open it again.';
  });
});

/** @type {(choice: Choice) => void} */
let tellChoice = () => {};
/** @type {Promise<Choice>} */
const choice = new Promise((resolve) => { tellChoice = resolve; });
const intake = new Intake({
  inspect: (photos, note) => void restored.then(() => gallery.add(photos, null, { note })),
  good: (photos, place) => choice.then((list) => list.own()).then((own) => own.add(photos, place)).catch(() => {}),
  open: (model) => void choice.then((list) => list.add(model)),
});
addEventListener('dinomaly:lost', (event) => {
  if (!detector) return;
  // Its photos wait for another try.
  gallery.pause();
  detector.close();
  detector = undefined;
  failed(/** @type {CustomEvent<Error>} */ (event).detail);
});
addEventListener('dinomaly:good', (event) => {
  const file = /** @type {CustomEvent<File>} */ (event).detail;
  const product = gallery.results().find((result) => result.file === file)?.product ?? null;
  choice.then((list) => list.own()).then((own) => own.forgive(file, product)).catch(() => {});
});
addEventListener('dinomaly:removed', (event) => {
  const { count, undo } = /** @type {CustomEvent<{count: number, undo: () => void}>} */ (event).detail;
  offerUndo(count === 1 ? '1 photo was removed.' : `${count} photos were removed.`, undo);
});
const query = new URLSearchParams(location.search);
const asked = query.get('device');
if (asked && [...devices.options].some(({ value }) => value === asked)) devices.value = asked;

/** @type {ReturnType<typeof setTimeout> | undefined} */
let patience;
/** Only the last one counts, if a visitor had no patience. */
let beginnings = 0;
/** What is done again on request. */
let start = () => void begin();
start();
models.addEventListener('change', () => start());
devices.addEventListener('change', () => start());

/** Reads what the site has, and opens a model. */
async function begin() {
  const mine = (beginnings += 1);
  loading();
  try {
    const text = await fetchBytes(new URL('models.json', document.baseURI).href, 'models.json', () => {}, { cache: 'no-cache' });
    if (mine === beginnings) await show(readIndex(new TextDecoder().decode(text), document.baseURI));
  } catch (error) {
    if (mine === beginnings) failed(error);
  }
}

/** @param {Index} index */
async function show(index) {
  offerSamples(index, (file, product, truth) => gallery.add([file], product, { truth }));
  start = () => {
    const model = list.chosen;
    if (model) void run(index, model, list);
    else empty();
  };
  const list = new Choice(index, () => /** @type {DeviceChoice} */ (devices.value), () => start(), (files, place) => intake.take(chosenFiles(files), place));
  await within(list.restore(), LIMITS.cache, () => {});
  tellChoice(list);
  addEventListener('beforeunload', (event) => {
    const waiting = document.querySelector('.card[data-state="waiting"], .card[data-state="working"]');
    if (waiting || session.loses || list.hasUnused) event.preventDefault();
  });
  start();
}

/**
 * Loads a model in place of the previous one.
 * @param {Index} index
 * @param {ModelEntry} model
 * @param {Choice} list
 */
async function run(index, model, list) {
  detector?.close();
  gallery.pause();
  judging = { model: model.name, hash: model.id.replace(/^(made|opened)-/, ''), program: index.program ?? null };
  page.dataset.made = list.learns ? 'here' : '';
  loading();
  const choice = /** @type {DeviceChoice} */ (devices.value);
  const opened = new Pool(index, model, choice, (progress) => opened === detector && advance(progress));
  detector = opened;
  try {
    const description = await opened.open();
    ready(description);
    void list.keep(model);
    prepareNextVisit();
    if (query.has('profile')) await (await import('./profile.js')).profile(description, opened, byId('profile', HTMLParagraphElement));
    // Another model may have been chosen in the meantime.
    if (opened !== detector) return;
    gallery.resume(opened, description);
    void takeFastest(index, model, description, opened);
  } catch (error) {
    if (opened !== detector) return;
    // Stops downloads, which would go on reporting progress.
    detector.close();
    detector = undefined;
    failed(error);
  }
}

/** The site has encoders, but no model, and none was made yet. */
function empty() {
  detector?.close();
  detector = undefined;
  gallery.pause();
  settle();
  page.dataset.state = 'empty';
  byId('own', HTMLDetailsElement).open = true;
  status('No detector yet: make one below from a few photos of good parts. Photos to inspect wait for it.');
  prepareNextVisit();
}

/**
 * Times both devices in the background. If the processor is faster, it is taken at once, or where photos were inspected already at the
 * next visit.
 * @param {Index} index
 * @param {ModelEntry} model
 * @param {Description} description
 * @param {Pool} opened
 */
async function takeFastest(index, model, description, opened) {
  const busy = () => opened !== detector || document.querySelector('.card[data-state="waiting"], .card[data-state="working"]') !== null;
  const times = await timeBoth(index, model, description, opened, busy);
  if (!times || opened !== detector) return;
  // Results stay as they are.
  if (times.processor < times.gpu && !document.querySelector('.card')) return start();
  description.device.times = times;
  ready(description);
}

function loading() {
  page.dataset.state = 'loading';
  status('Loading…');
  wait();
}

/** Offers the ways on if nothing happens for long. */
function wait() {
  settle();
  patience = setTimeout(() => {
    tell('This takes longer than usual.');
    offerWays(ways(), false);
  }, LIMITS.patience);
}

/** There is nothing to wait for, and nothing that went wrong. */
function settle() {
  clearTimeout(patience);
  withdrawWays();
}

/** @returns {import('./ways.js').Ways} */
function ways() {
  if (devices.value === 'wasm' || models.options.length === 0) return { again: start };
  const processor = () => {
    devices.value = 'wasm';
    start();
  };
  return { again: start, processor };
}

/** @param {Progress} progress */
function advance({ phase, loaded, total }) {
  page.dataset.state = 'loading';
  wait();
  bar.hidden = false;
  if (phase === 'download') {
    bar.value = loaded / total;
    status(`Loading the detector: ${megabytes(loaded)} of ${megabytes(total)} MB`);
  } else {
    bar.removeAttribute('value');
    status('Preparing and testing the device…');
  }
}

/** @param {Description} description */
function ready({ device, refused, encoder, parameters, inputSide, selfTested }) {
  bar.hidden = true;
  settle();
  page.dataset.state = 'ready';
  page.dataset.device = device.kind;
  const where = device.kind === 'webgpu'
    ? `Ready on the GPU (WebGPU${device.name ? `, ${device.name}` : ''}${device.software ? ', emulated' : ''})`
    : 'Ready on the CPU (WebAssembly)';
  status(where);
  const millions = (parameters / 1e6).toFixed(1);
  const tested = `${selfTested ? ', self-test passed' : ''} in ${device.precision}${refused.length > 0 ? `, not in ${refused.join(' or ')}` : ''}`;
  const about = `${encoder}, ${millions} million parameters, ${inputSide} × ${inputSide} pixels${tested}`;
  const { times } = device;
  const compared = times ? `A photo takes ${times.gpu.toFixed(0)} ms on the GPU, ${times.processor.toFixed(0)} ms on the processor.` : '';
  tell(device.fallback ? `Not on the GPU: ${device.fallback}.` : '', about, compared);
}

/** @param {unknown} error */
function failed(error) {
  bar.hidden = true;
  settle();
  page.dataset.state = 'failed';
  status('The detector could not be started');
  tell(sentence(error));
  offerWays(ways(), error instanceof Error && error.name === 'NetworkError');
}

/** @param {string} text */
function status(text) {
  byId('status-text', HTMLSpanElement).textContent = shown(text);
  more.hidden = true;
}

/** @param {string[]} lines */
function tell(...lines) {
  const shown = lines.filter(Boolean);
  more.replaceChildren(...shown.map((line) => make('span', { textContent: line })));
  more.hidden = shown.length === 0;
}

/** @param {number} bytes */
const megabytes = (bytes) => (bytes / 1e6).toFixed(1);
