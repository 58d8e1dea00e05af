// @ts-check
// Results over a reload, Back and a crash: numbers are kept on this device, photos and their small pictures only with consent.

import { byId } from './dom.js';
import { arrivedAs } from './formats.js';
import { sha256 } from './hash.js';
import { all, clear, put, remove } from './store.js';

/** @import {Judged, Result, Row} from './types.js' */

/** Key of the consent in the local storage. */
const CONSENT = `dinomaly-photos ${new URL('.', document.baseURI).href}`;

/** Time in milliseconds in which changes are gathered. */
const GATHER = 300;

/** Most results that are kept, the newest ones: each visit begins with showing them. */
const MOST = 1000;

export class Session {
  /** What is kept, by the result's id: what of it may change. @type {Map<string, string>} */
  #kept = new Map();
  /** Ids of results whose photos are kept. @type {Set<string>} */
  #photos = new Set();
  /** What results were judged by. @type {Map<string, Judged>} */
  #judged = new Map();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** Each saving begins after the one before. */
  #saved = Promise.resolve();
  /** Whether the last attempt to keep something succeeded. */
  #works = true;
  #consent = byId('keep-photos', HTMLInputElement);

  /**
   * @param {() => Result[]} results
   * @param {() => string[]} pending ids of results of photos that are inspected again
   * @param {() => Judged} current what photos are judged by now
   */
  constructor(results, pending, current) {
    this.results = results;
    this.pending = pending;
    this.current = current;
    this.#consent.checked = recall();
    this.#consent.addEventListener('change', () => {
      remember(this.#consent.checked);
      void this.save();
    });
    addEventListener('dinomaly:changed', () => {
      this.#note();
      this.#timer ??= setTimeout(() => void this.save(), GATHER);
    });
    // The page may be gone without another word.
    addEventListener('visibilitychange', () => document.visibilityState === 'hidden' && void this.save());
    addEventListener('pagehide', () => void this.save());
  }

  /**
   * What a result was judged by.
   * @param {string} id
   */
  judged(id) {
    return this.#judged.get(id);
  }

  /** Whether results would be lost with the page. */
  get loses() {
    return !this.#works && this.results().length > 0;
  }

  /**
   * Shows the results of earlier visits, in order of arrival.
   * @param {(rows: Row[]) => void} show
   */
  async restore(show) {
    try {
      /** @type {{id: string, judged: Judged, row: Row}[]} */
      const found = await all('rows');
      const photos = new Map((await all('photos')).map(({ id, file }) => [id, file]));
      found.sort((a, b) => a.row.arrived - b.row.arrived);
      const [older, kept] = [found.slice(0, -MOST), found.slice(-MOST)];
      for (const { id, judged, row } of kept) {
        this.#judged.set(id, judged);
        this.#kept.set(id, changing(row));
        if (photos.has(id)) this.#photos.add(id);
      }
      show(kept.map(({ id, row }) => (photos.has(id) ? { ...row, file: photos.get(id) } : row)));
      await this.#drop(older.map(({ id }) => id));
    } catch {
      // The browser keeps nothing for the page.
      this.#works = false;
    }
  }

  /** Notes what new results were judged by, before another model is chosen. */
  #note() {
    for (const { id } of this.results()) if (!this.#judged.has(id)) this.#judged.set(id, this.current());
  }

  /** Keeps what changed since the last time. */
  save() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#saved = this.#saved.then(() => this.#save()).then(() => this.#tell(true), () => this.#tell(false));
    return this.#saved;
  }

  /** @param {boolean} works whether results are kept */
  #tell(works) {
    this.#works = works;
    byId('keep-said', HTMLParagraphElement).textContent = this.loses
      ? 'Results are not kept: the browser keeps nothing for this page, or the device is full. Export them before you leave.'
      : '';
  }

  async #save() {
    const results = this.results();
    // What is inspected again is kept as it was, until there is a new result.
    const present = new Set([...results.map(({ id }) => id), ...this.pending()]);
    const gone = [...this.#kept.keys()].filter((id) => !present.has(id));
    const rows = results.slice(-MOST).map((result) => this.#rowOf(result));
    const changed = rows.filter((row) => this.#kept.get(row.id) !== changing(row));
    for (const result of results) if (changed.some(({ id }) => id === result.id)) await this.#identify(result);
    if (changed.length > 0) await put('rows', ...changed.map((row) => ({ id: row.id, judged: this.#judged.get(row.id), row })));
    for (const row of changed) this.#kept.set(row.id, changing(row));
    await this.#drop(gone);
    await this.#savePhotos(results);
  }

  /** @param {string[]} gone ids of results that are kept no longer */
  async #drop(gone) {
    if (gone.length === 0) return;
    await remove('rows', ...gone);
    await remove('photos', ...gone);
    for (const id of gone) {
      this.#kept.delete(id);
      this.#photos.delete(id);
    }
  }

  /**
   * What is kept of a result: without consent no picture.
   * @param {Result} result
   * @returns {Row}
   */
  #rowOf({ id, arrived, name, product, verdict, score, threshold, middle, label, device, time, width, height, unknown, regions, thumbnail, heat, region }) {
    const numbers = { id, arrived, name, product, verdict, score, threshold, middle, label, device, time, width, height, unknown, regions, region };
    return this.#consent.checked ? { ...numbers, thumbnail, heat } : { ...numbers, thumbnail: null, heat: null };
  }

  /**
   * Adds the hash of the photo to what it was judged by: without its file nobody could tell it later.
   * @param {Result} result
   */
  async #identify({ id, file }) {
    const judged = this.#judged.get(id);
    if (!judged || judged.photo || !file) return;
    const photo = await sha256(arrivedAs(file)).catch(() => undefined);
    if (photo) this.#judged.set(id, { ...judged, photo });
  }

  /** @param {Result[]} results */
  async #savePhotos(results) {
    if (!this.#consent.checked) {
      if (this.#photos.size > 0) await clear('photos');
      return this.#photos.clear();
    }
    for (const { id, file } of results) {
      if (!file || this.#photos.has(id)) continue;
      const photo = { id, file };
      await put('photos', photo);
      this.#photos.add(id);
    }
  }
}

/**
 * What may change of a result.
 * @param {Row} row
 */
function changing({ product, verdict, threshold, label, regions, thumbnail, heat }) {
  return JSON.stringify([product, verdict, threshold, label, regions?.length, thumbnail?.size, heat?.size]);
}

function recall() {
  try {
    return localStorage.getItem(CONSENT) === 'yes';
  } catch {
    // The browser may forbid storage.
    return false;
  }
}

/** @param {boolean} consent */
function remember(consent) {
  try {
    if (consent) localStorage.setItem(CONSENT, 'yes');
    else localStorage.removeItem(CONSENT);
  } catch {
    // It is asked for again on the next visit.
  }
}
