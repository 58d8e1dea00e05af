// @ts-check
// The panel for a detector of the visitor's own: photos of good parts, and the model made of them.

import { byId, make, sentence, shown } from './dom.js';
import { makeModel } from './maker.js';
import { saveModel } from './save.js';

/** @import {DeviceChoice, Index, ModelEntry} from './types.js' */

export class Own {
  /** @type {File[]} */
  #photos = [];
  /** @type {ModelEntry | undefined} */
  #model;
  #busy = false;
  #panel = byId('own', HTMLDetailsElement);
  #name = byId('own-name', HTMLInputElement);
  #make = byId('own-make', HTMLButtonElement);
  #save = byId('own-save', HTMLButtonElement);
  #list = byId('own-photos', HTMLUListElement);
  #bar = byId('own-progress', HTMLProgressElement);
  #status = byId('own-status', HTMLParagraphElement);

  /**
   * @param {Index} index
   * @param {() => ModelEntry} source the model whose encoder is used
   * @param {() => DeviceChoice} device
   * @param {(model: ModelEntry) => void} use called with each model that was made
   */
  constructor(index, source, device, use) {
    this.index = index;
    this.source = source;
    this.device = device;
    this.use = use;
    const files = byId('own-files', HTMLInputElement);
    files.addEventListener('change', () => {
      this.add([...(files.files ?? [])]);
      files.value = '';
    });
    this.#make.addEventListener('click', () => void this.#work());
    this.#save.addEventListener('click', () => void this.#keep());
  }

  /** @param {File[]} files photos of good parts */
  add(files) {
    this.#panel.open = true;
    this.#photos.push(...files);
    this.#show();
  }

  /**
   * Adds a photo that the detector accused wrongly, and makes the detector again.
   * @param {File} file
   */
  forgive(file) {
    this.add([file]);
    void this.#work();
  }

  #show() {
    this.#list.replaceChildren(...this.#photos.map((file) => {
      const remove = make('button', { type: 'button', className: 'own-remove', textContent: '×' });
      remove.setAttribute('aria-label', shown(`Remove ${file.name}`));
      remove.addEventListener('click', () => {
        this.#photos = this.#photos.filter((other) => other !== file);
        this.#show();
        this.#make.focus();
      });
      return make('li', {}, make('span', { textContent: file.name }), remove);
    }));
    this.#make.disabled = this.#busy || this.#photos.length === 0;
    this.#make.textContent = this.#model ? 'Make it again' : 'Make the detector';
  }

  async #work() {
    if (this.#busy) return;
    const name = this.#name.value.trim();
    if (!name) {
      this.#status.textContent = 'Name the product first.';
      this.#name.focus();
      return;
    }
    this.#busy = true;
    this.#show();
    this.#bar.hidden = false;
    this.#bar.removeAttribute('value');
    this.#status.textContent = 'Making the detector…';
    try {
      const photos = [...this.#photos];
      const model = await makeModel(this.index, this.source(), this.device(), name, photos, ({ phase, loaded, total }) => {
        if (phase === 'encode') this.#bar.value = loaded / total;
      });
      this.#model = model;
      const count = photos.length === 1 ? '1 good photo' : `${photos.length} good photos`;
      const doubts = model.doubts.map((doubt) => ` About its threshold: ${doubt}.`).join('');
      this.#status.textContent = shown(`Ready: ${model.memory} of ${count}.${doubts} Drop photos to inspect.`);
      this.use(model);
    } catch (error) {
      this.#status.textContent = shown(`No detector was made: ${sentence(error)}`);
    }
    this.#busy = false;
    this.#bar.hidden = true;
    this.#save.hidden = !this.#model;
    this.#show();
  }

  async #keep() {
    if (!this.#model) return;
    try {
      await saveModel(this.#model);
    } catch (error) {
      this.#status.textContent = shown(`The model was not saved: ${sentence(error)}`);
    }
  }
}
