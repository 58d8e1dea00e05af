// @ts-check
// The large view: one photo after the other, with numbers, regions and labels.

import { VERDICTS, disagreement } from './card.js';
import { byId, make, sentence, shown } from './dom.js';
import { listenToGestures } from './gestures.js';
import { short } from './judge.js';
import { canvasOfImage } from './picture.js';
import { View } from './view.js';
import { listenToKeys } from './viewer-keys.js';

/** @import {Card} from './card.js' */
/** @import {AnomalyMap, Label, Region} from './types.js' */
/** @import {Judge} from './judge.js' */
/** @import {Inspected} from './result.js' */
/** @import {Shelf} from './shelf.js' */
/** @import {Mode} from './view.js' */

/** Regions that are listed. */
const LISTED = 20;

/**
 * @typedef {object} Actions
 * @property {(card: Card, label: Label) => void} label
 * @property {(card: Card, product: string) => void} choose
 */

export class Viewer {
  /** @type {Judge | undefined} */
  judge;
  /** @type {Card | undefined} */
  #card;
  /** @type {AnomalyMap | undefined} */
  #map;
  /** @type {ImageBitmap | undefined} */
  #photo;
  #dialog = byId('viewer', HTMLDialogElement);
  #canvas = byId('viewer-canvas', HTMLCanvasElement);
  #view = new View(this.#canvas);
  #swipe = byId('viewer-swipe', HTMLInputElement);
  #note = byId('viewer-note', HTMLParagraphElement);
  #value = byId('viewer-value', HTMLParagraphElement);
  #modes = [...this.#dialog.querySelectorAll('input[name="mode"]')].map((input) => /** @type {HTMLInputElement} */ (input));

  /**
   * @param {Shelf} shelf
   * @param {Actions} actions
   */
  constructor(shelf, actions) {
    this.shelf = shelf;
    this.actions = actions;
    const press = (/** @type {string} */ id, /** @type {() => void} */ act) => byId(id, HTMLButtonElement).addEventListener('click', act);
    press('viewer-previous', () => this.step(-1));
    press('viewer-next', () => this.step(1));
    press('viewer-close', () => this.#dialog.close());
    press('viewer-help', () => this.help());
    press('zoom-in', () => this.zoom(1.5));
    press('zoom-out', () => this.zoom(1 / 1.5));
    press('zoom-fit', () => this.#view.fit());
    press('zoom-pixels', () => this.#view.pixels());
    press('label-good', () => this.label('good'));
    press('label-bad', () => this.label('bad'));
    for (const mode of this.#modes) mode.addEventListener('change', () => this.#show(/** @type {Mode} */ (mode.value)));
    this.#swipe.addEventListener('input', () => (this.#view.swipe = Number(this.#swipe.value) / 100));
    listenToGestures(this.#view, (at) => this.#point(at && this.#view.place(at)));
    listenToKeys(this, this.#dialog);
    this.#dialog.addEventListener('close', () => this.#closed());
  }

  /** @param {number} opacity of the heatmap, 0 to 1 */
  set opacity(opacity) {
    this.#view.opacity = opacity;
  }

  /** @param {boolean} hidden whether the heatmap is hidden */
  set hidden(hidden) {
    this.#view.hidden = hidden;
  }

  /** @param {Card} card */
  open(card) {
    if (!card.result) return;
    this.#card = card;
    if (!this.#dialog.open) {
      this.#dialog.showModal();
      this.#canvas.focus();
    }
    void this.#load(false);
  }

  /** Shows the photo again after its result has changed. */
  refresh() {
    if (!this.#dialog.open) return;
    if (this.#card?.result) void this.#load(true);
    else this.#dialog.close();
  }

  /** Goes to another photo of those that the page shows. @param {1 | -1} by */
  step(by) {
    const cards = this.#cards();
    const next = cards[cards.findIndex((card) => card === this.#card) + by];
    if (next) this.open(next);
  }

  /** @param {number} factor */
  zoom(factor) {
    this.#view.zoom(factor);
    this.#point(this.#view.centre);
  }

  /**
   * @param {number} x in CSS pixels
   * @param {number} y
   */
  move(x, y) {
    this.#view.move(x, y);
    this.#point(this.#view.centre);
  }

  fit() {
    this.#view.fit();
  }

  pixels() {
    this.#view.pixels();
  }

  /** Takes the next of the modes. */
  nextMode() {
    const usable = this.#modes.filter(({ disabled }) => !disabled);
    const next = usable[(usable.findIndex(({ checked }) => checked) + 1) % usable.length];
    next.checked = true;
    this.#show(/** @type {Mode} */ (next.value));
  }

  /** Labels the photo; the same label again takes it back. @param {'good' | 'bad'} label */
  label(label) {
    const card = this.#card;
    if (!card?.result) return;
    this.actions.label(card, card.label === label ? null : label);
    this.#write(card, card.result);
  }

  /** Shows or hides the list of keys. */
  help(visible = !this.helping) {
    const keys = byId('viewer-keys', HTMLElement);
    keys.hidden = !visible;
    byId('viewer-help', HTMLButtonElement).setAttribute('aria-expanded', String(visible));
    (visible ? keys : this.#canvas).focus();
  }

  get helping() {
    return !byId('viewer-keys', HTMLElement).hidden;
  }

  /** Cards with a result that the page shows, in its order. */
  #cards() {
    return this.shelf.shown.filter(({ result }) => result);
  }

  /** @param {Mode} mode */
  #show(mode) {
    this.#view.mode = mode;
    this.#swipe.hidden = mode !== 'swipe';
  }

  /** @param {boolean} again whether the photo is the one that is shown already */
  async #load(again) {
    const card = this.#card;
    const result = card?.result;
    if (!card || !result) return;
    this.#write(card, result);
    this.#say(again ? '' : 'Loading…');
    if (!again) this.#clear();
    /** @type {ImageBitmap | undefined} */
    let photo;
    try {
      photo = await result.photo();
      const heat = result.whole ? await result.heatmap() : undefined;
      const small = !heat && result.heat ? await createImageBitmap(result.heat) : null;
      if (this.#card !== card || card.result !== result || !this.#dialog.open) return photo.close();
      this.#photo?.close();
      this.#photo = photo;
      this.#map = heat?.map;
      const { region, width, height, regions = [] } = result;
      this.#view.show({ photo, heat: heat ? canvasOfImage(heat.image) : small, region, width, height, regions }, again);
      const reduced = photo.width < width ? `Shown from a copy of ${photo.width} × ${photo.height} pixels.` : '';
      this.#say(reduced);
    } catch (error) {
      photo?.close();
      if (this.#card === card) this.#say(sentence(error));
    }
  }

  /**
   * @param {Card} card
   * @param {Inspected} result
   */
  #write(card, result) {
    const { verdict, score, threshold, middle, product, width, height, regions } = result;
    const cards = this.#cards();
    const at = cards.indexOf(card);
    const text = (/** @type {string} */ id, /** @type {string} */ content) => (byId(id, HTMLElement).textContent = shown(content));
    text('viewer-name', card.name);
    text('viewer-place', at < 0 ? '' : `${at + 1} of ${cards.length}`);
    byId('viewer-previous', HTMLButtonElement).disabled = at <= 0;
    byId('viewer-next', HTMLButtonElement).disabled = at < 0 || at === cards.length - 1;
    this.#dialog.dataset.verdict = verdict;
    text('viewer-verdict', VERDICTS[verdict]);
    text('viewer-hint', disagreement(card.label, verdict));
    this.#canvas.setAttribute('aria-label', shown(`${card.name} with its heatmap: ${VERDICTS[verdict].toLowerCase()}, score ${short(score)}`));
    const own = threshold === middle ? '' : ` (the model’s: ${short(middle)})`;
    const normalised = card.restored ? null : (this.judge?.normalised(result) ?? null);
    const scaled = normalised === null ? '' : ` Normalised ${normalised.toFixed(2)}: 0 is usual for good photos, 1 is the model’s threshold.`;
    text('viewer-numbers', `Score ${short(score)}, threshold ${short(threshold)}${own}.${scaled} ${width} × ${height} pixels.`);
    const mark = byId('viewer-tick-mark', HTMLSpanElement);
    mark.textContent = `▴ ${short(threshold)}`;
    mark.style.setProperty('--at', String(Math.min(1, threshold / (2 * middle))));
    text('viewer-tick-high', short(2 * middle));
    for (const label of /** @type {const} */ (['good', 'bad'])) {
      byId(`label-${label}`, HTMLButtonElement).setAttribute('aria-pressed', String(card.label === label));
    }
    this.#offerProducts(card, product);
    this.#listRegions(regions);
  }

  /**
   * @param {Card} card
   * @param {string | null} product
   */
  #offerProducts(card, product) {
    const place = byId('viewer-product', HTMLDivElement);
    const { judge } = this;
    const several = judge !== undefined && !card.restored && judge.description.classes.length > 1;
    const focused = place.contains(document.activeElement);
    place.replaceChildren(...(several ? [make('label', { className: 'pick' }, make('span', { textContent: 'Product' }), card.productChoice(judge))] : []));
    if (!several && product) place.append(make('p', { className: 'viewer-numbers', textContent: `Product: ${product}` }));
    if (focused) place.querySelector('select')?.focus();
  }

  /** @param {Region[] | undefined} regions */
  #listRegions(regions) {
    const place = byId('viewer-regions', HTMLDivElement);
    const outline = this.#modes.find(({ value }) => value === 'outline');
    if (outline) outline.disabled = !regions;
    if (outline?.checked && !regions) this.nextMode();
    if (!regions) return place.replaceChildren(make('p', { textContent: 'This model tells no regions: calibrate it again to have them.' }));
    if (regions.length === 0) return place.replaceChildren(make('p', { textContent: 'No region lies above the pixel threshold.' }));
    const rows = regions.slice(0, LISTED).map(({ box, area, peak }, i) => {
      const button = make('button', { type: 'button', textContent: `${i + 1}` });
      button.setAttribute('aria-label', `Look at region ${i + 1}`);
      button.addEventListener('click', () => this.#view.look(box));
      return make('tr', {}, make('td', {}, button), make('td', { textContent: `${Math.round(area)} px²` }), make('td', { textContent: short(peak) }));
    });
    const heads = ['Region', 'Area', 'Peak'].map((textContent) => make('th', { textContent, scope: 'col' }));
    const more = regions.length > LISTED ? [make('p', { textContent: `and ${regions.length - LISTED} smaller ones` })] : [];
    place.replaceChildren(make('table', {}, make('thead', {}, make('tr', {}, ...heads)), make('tbody', {}, ...rows)), ...more);
  }

  /** Shows the map's value at a place of the photo. @param {{x: number, y: number} | null} at */
  #point(at) {
    const result = this.#card?.result;
    this.#value.textContent = at && result ? this.#valueAt(at, result) : '';
  }

  /**
   * @param {{x: number, y: number}} at
   * @param {Inspected} result
   */
  #valueAt({ x, y }, { region: [x0, y0, x1, y1], width, height }) {
    if (x < 0 || y < 0 || x >= width || y >= height) return '';
    const place = `${Math.floor(x)}, ${Math.floor(y)}`;
    if (x < x0 || y < y0 || x >= x1 || y >= y1) return `${place}: not inspected`;
    if (!this.#map) return place;
    const column = Math.min(this.#map.width - 1, Math.floor(((x - x0) / (x1 - x0)) * this.#map.width));
    const row = Math.min(this.#map.height - 1, Math.floor(((y - y0) / (y1 - y0)) * this.#map.height));
    return `${place}: ${short(this.#map.values[row * this.#map.width + column])}`;
  }

  /** @param {string} text */
  #say(text) {
    this.#note.textContent = shown(text);
    this.#note.hidden = text === '';
  }

  /** Frees the photo and the map. */
  #clear() {
    this.#view.show(undefined);
    this.#photo?.close();
    this.#photo = undefined;
    this.#map = undefined;
    this.#value.textContent = '';
  }

  #closed() {
    // The event comes a moment after the view has closed, when another photo may be open already.
    if (this.#dialog.open) return;
    this.#clear();
    this.#view.hidden = false;
    const card = this.#card;
    this.#card = undefined;
    if (this.helping) this.help(false);
    // The card of the last photo, which may not be the first one.
    const target = card && !card.element.hidden && card.stage?.isConnected ? card.stage : byId('verdicts', HTMLSelectElement);
    target.scrollIntoView({ block: 'nearest' });
    target.focus();
  }
}
