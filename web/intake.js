// @ts-check
// Intake of photos and models: dropped anywhere on the page, chosen, or pasted. What cannot be taken is said in one message.

import { noteOn, sortOut } from './arrivals.js';
import { byId, make, sentence, shown } from './dom.js';
import { chosenFiles, droppedFiles } from './folders.js';

/** @import {ModelEntry} from './types.js' */
/** @import {Arrival} from './folders.js' */

/** Refused files that are named; of more only the number is said. */
const NAMED = 20;

/**
 * Takers of what arrives.
 * @typedef {object} Takers
 * @property {(photos: File[], note: string | null) => void} inspect with what the browser did to these photos for the detector
 * @property {(photos: File[], place: Element) => void} good photos of good parts, given at this place in the panel that makes a detector
 * @property {(model: ModelEntry) => void} open
 */

export class Intake {
  /** Files are taken in the order of their arrival. */
  #queue = Promise.resolve();
  #zone = byId('intake', HTMLElement);
  #said = byId('arrived', HTMLParagraphElement);
  #refused = byId('refused', HTMLElement);
  #names = byId('refused-names', HTMLUListElement);
  /** Numbers of files that were refused and left out since the message was closed. */
  #counts = { refused: 0, leftOut: 0 };

  /** @param {Takers} takers */
  constructor(takers) {
    this.takers = takers;
    for (const id of ['files', 'folder']) this.#listen(byId(id, HTMLInputElement));
    byId('choose-folder', HTMLButtonElement).addEventListener('click', () => byId('folder', HTMLInputElement).click());
    byId('refused-close', HTMLButtonElement).addEventListener('click', () => this.#forget());
    this.#listenToDrags();
    addEventListener('paste', (event) => {
      const files = [...(event.clipboardData?.files ?? [])];
      if (files.length === 0) return;
      event.preventDefault();
      this.take(chosenFiles(files), null);
    });
  }

  /** @param {HTMLInputElement} input */
  #listen(input) {
    input.addEventListener('change', () => {
      this.take(chosenFiles(input.files ?? []), null);
      // Allows the same file to be chosen again.
      input.value = '';
    });
  }

  #listenToDrags() {
    // A drag enters and leaves elements of the page all the time; their sum tells whether it is over the page.
    let depth = 0;
    const hover = (/** @type {number} */ change) => {
      depth = Math.max(0, depth + change);
      this.#zone.classList.toggle('over', depth > 0);
    };
    // Browsers open what is dropped elsewhere, and some tell of files only as addresses. Text may be dropped into a field.
    const ours = (/** @type {DragEvent} */ { target, dataTransfer }) =>
      dataTransfer?.types.includes('Files') || !(target instanceof Element && target.closest('input[type="text"], textarea'));
    addEventListener('dragenter', (event) => ours(event) && hover(1));
    addEventListener('dragleave', (event) => ours(event) && hover(-1));
    addEventListener('dragover', (event) => ours(event) && event.preventDefault());
    addEventListener('drop', (event) => {
      if (!ours(event)) return;
      event.preventDefault();
      hover(-depth);
      const { target, dataTransfer } = event;
      if (!dataTransfer?.files.length) return this.#say('The browser handed no file over: use “choose files”.');
      const place = target instanceof Element && target.closest('#own') ? target : null;
      this.take(droppedFiles(dataTransfer), place);
    });
  }

  /**
   * Takes files in turn.
   * @param {Arrival | Promise<Arrival>} arriving
   * @param {Element | null} place in the panel that makes a detector, where they were given
   */
  take(arriving, place) {
    const taken = this.#queue.then(async () => {
      const { files: arrived, unread, excess } = await arriving;
      const lost = [
        unread > 0 ? `${unread === 1 ? '1 file or folder' : `${unread} files or folders`} could not be read.` : '',
        excess > 0 ? `${excess} files were too many and were left out: give fewer at a time.` : '',
      ].filter(Boolean).map((text) => ` ${text}`).join('');
      if (arrived.length === 0) return this.#say(`There are no files in it.${lost}`);
      let photos = 0;
      for await (const sorted of sortOut(arrived)) {
        photos += sorted.photos.length;
        this.#count(sorted.refused, sorted.leftOut);
        for (const model of sorted.models) this.takers.open(model);
        if (sorted.photos.length === 0) continue;
        if (place) this.takers.good(sorted.photos, place);
        else for (const note of new Set(sorted.photos.map(noteOn))) this.takers.inspect(sorted.photos.filter((photo) => noteOn(photo) === note), note);
        this.#say(`${photos === 1 ? '1 photo' : `${photos} photos`} taken.${lost}`);
      }
    });
    this.#queue = taken.catch((error) => this.#say(`Not all files were taken: ${sentence(error)}`));
  }

  /** @param {string} text */
  #say(text) {
    this.#said.textContent = shown(text);
  }

  /**
   * Adds files to the message of those that were not taken.
   * @param {{name: string, why: string}[]} refused
   * @param {number} leftOut
   */
  #count(refused, leftOut) {
    if (refused.length === 0 && leftOut === 0) return;
    const before = this.#counts.refused;
    this.#counts.refused += refused.length;
    this.#counts.leftOut += leftOut;
    const { refused: number, leftOut: others } = this.#counts;
    const named = refused.slice(0, Math.max(0, NAMED - before));
    this.#names.append(...named.map(({ name, why }) => make('li', { textContent: why.startsWith(name) ? why : `${name} ${why}` })));
    const parts = [
      number > 0 ? `${number === 1 ? '1 file was' : `${number} files were`} not taken${number > NAMED ? `, the first ${NAMED} of them` : ''}` : '',
      others > 0 ? `${others === 1 ? '1 file' : `${others} files`} in folders or archives ${others === 1 ? 'was' : 'were'} left out: no photos, or photos beside a model` : '',
    ];
    byId('refused-title', HTMLParagraphElement).textContent = shown(`${parts.filter(Boolean).join('; ')}${number > 0 ? ':' : '.'}`);
    this.#refused.hidden = false;
  }

  #forget() {
    this.#counts = { refused: 0, leftOut: 0 };
    this.#names.replaceChildren();
    this.#refused.hidden = true;
    byId('files', HTMLInputElement).focus();
  }
}
