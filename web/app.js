// @ts-check
// The page: choice of model and device, and its status.

import { Choice } from './choice.js';
import { byId, make, sentence, shown } from './dom.js';
import { chosenFiles } from './folders.js';
import { Gallery } from './gallery.js';
import { Intake } from './intake.js';
import { Pool } from './pool.js';
import { profile } from './profile.js';
import { Session } from './session.js';
import { readIndex } from './site.js';
import { offerUndo } from './undo.js';
import { fromCache, prepareNextVisit } from './visits.js';

/** @import {Description, DeviceChoice, Index, Judged, ModelEntry, Progress, Sample} from './types.js' */

const page = document.documentElement;
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

try {
  const index = readIndex(await fetchIndex(), document.baseURI);
  offer(index.samples);
  const open = () => {
    const model = list.chosen;
    if (model) void run(index, model, list);
    else empty();
  };
  const list = new Choice(index, () => /** @type {DeviceChoice} */ (devices.value), open, (files, place) => intake.take(chosenFiles(files), place));
  await list.restore();
  tellChoice(list);
  addEventListener('beforeunload', (event) => {
    const waiting = document.querySelector('.card[data-state="waiting"], .card[data-state="working"]');
    if (waiting || session.loses || list.hasUnused) event.preventDefault();
  });
  models.addEventListener('change', open);
  devices.addEventListener('change', open);
  open();
} catch (error) {
  failed(error);
}

/** The text of `models.json`. */
async function fetchIndex() {
  const response = await fetch(new URL('models.json', document.baseURI), { cache: 'no-cache' }).catch(() => undefined);
  const text = response?.ok ? await response.text().catch(() => undefined) : undefined;
  if (text === undefined) throw new Error('models.json could not be loaded: check the connection, or whether the site is complete');
  return text;
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
  page.dataset.state = 'loading';
  judging = { model: model.name, hash: model.id.replace(/^(made|opened)-/, ''), program: index.program ?? null };
  page.dataset.made = list.learns ? 'here' : '';
  status('Loading…');
  const choice = /** @type {DeviceChoice} */ (devices.value);
  const opened = new Pool(index, model, choice, (progress) => opened === detector && advance(progress));
  detector = opened;
  try {
    const description = await opened.open();
    ready(description);
    void list.keep(model);
    prepareNextVisit();
    if (query.has('profile')) await profile(description, opened, byId('profile', HTMLParagraphElement));
    // Another model may have been chosen in the meantime.
    if (opened !== detector) return;
    gallery.resume(opened, description);
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
  page.dataset.state = 'empty';
  byId('own', HTMLDetailsElement).open = true;
  status('No detector yet: make one below from a few photos of good parts. Photos to inspect wait for it.');
  prepareNextVisit();
}

/** @param {Progress} progress */
function advance({ phase, loaded, total }) {
  page.dataset.state = 'loading';
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
  page.dataset.state = 'ready';
  page.dataset.device = device.kind;
  const where = device.kind === 'webgpu'
    ? `Ready on the GPU (WebGPU${device.name ? `, ${device.name}` : ''}${device.software ? ', emulated' : ''})`
    : 'Ready on the CPU (WebAssembly)';
  status(where);
  const millions = (parameters / 1e6).toFixed(1);
  const tested = `${selfTested ? ', self-test passed' : ''} in ${device.precision}${refused.length > 0 ? `, not in ${refused.join(' or ')}` : ''}`;
  const about = `${encoder}, ${millions} million parameters, ${inputSide} × ${inputSide} pixels${tested}`;
  tell(device.fallback ? `Not on the GPU: ${device.fallback}.` : '', about);
}

/** @param {unknown} error */
function failed(error) {
  bar.hidden = true;
  page.dataset.state = 'failed';
  status('The detector could not be started');
  tell(sentence(error));
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

/** @param {Sample[]} samples */
function offer(samples) {
  const items = samples.map(({ name, class: product, path }) => {
    const image = make('img', { src: path, alt: '', loading: 'lazy' });
    const button = make('button', { type: 'button' }, image, make('span', { textContent: name }));
    button.addEventListener('click', async () => {
      const response = await fetch(new URL(path, document.baseURI)).catch(() => undefined);
      // A missing sample is refused like any file that is not a photo.
      const content = response?.ok ? await response.blob() : new Blob();
      gallery.add([new File([content], name)], product);
    });
    return make('li', {}, button);
  });
  byId('samples-list', HTMLUListElement).replaceChildren(...items);
  byId('samples', HTMLElement).hidden = items.length === 0;
}

/** @param {number} bytes */
const megabytes = (bytes) => (bytes / 1e6).toFixed(1);
