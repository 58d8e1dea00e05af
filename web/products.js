// @ts-check
// Products to make a detector of, each with its photos of good parts.

import { make, shown } from './dom.js';
import { offerUndo } from './undo.js';

/** @import {GoodPhotos} from './kept-models.js' */

/** Height of a photo's thumbnail in pixels. */
const THUMBNAIL = 72;

/** A product's name and photos, and its part of the panel. */
class Product {
  /** @type {Map<File, HTMLLIElement>} */
  photos = new Map();
  #list = make('ul', { className: 'own-photos' });

  /**
   * @param {string} name
   * @param {Products} all
   */
  constructor(name, all) {
    this.all = all;
    this.input = make('input', { type: 'text', value: name, maxLength: 60, autocomplete: 'off', className: 'own-name' });
    this.input.addEventListener('input', () => this.#label());
    this.input.addEventListener('change', () => all.changed());
    const chosen = make('input', { type: 'file', accept: 'image/*,.tif,.tiff,.zip', multiple: true });
    chosen.addEventListener('change', () => {
      all.receive([...(chosen.files ?? [])], this);
      chosen.value = '';
    });
    this.remove = make('button', { type: 'button', textContent: 'Remove this product' });
    this.remove.addEventListener('click', () => all.take(this));
    this.element = make('li', { className: 'own-product' },
      make('div', { className: 'own-form' },
        make('label', { className: 'field' }, make('span', { textContent: 'Product' }), this.input),
        make('label', { className: 'own-choose' }, chosen, make('span', { textContent: 'Choose good photos' })),
        this.remove),
      this.#list);
    this.#label();
  }

  get name() {
    return this.input.value.trim();
  }

  #label() {
    this.#list.setAttribute('aria-label', shown(`Photos of good parts of ${this.name || 'this product'}`));
    this.remove.setAttribute('aria-label', shown(`Remove this product: ${this.name}`));
  }

  /**
   * Adds photos, each once. Returns how many were there already.
   * @param {File[]} files
   */
  add(files) {
    const same = (/** @type {File} */ a, /** @type {File} */ b) => a.name === b.name && a.size === b.size && a.lastModified === b.lastModified;
    let twice = 0;
    for (const file of files) {
      if ([...this.photos.keys()].some((other) => same(file, other))) twice += 1;
      else this.#append(file);
    }
    return twice;
  }

  /** @param {File} file */
  #append(file) {
    const canvas = make('canvas', { width: THUMBNAIL, height: THUMBNAIL });
    canvas.setAttribute('aria-hidden', 'true');
    const remove = make('button', { type: 'button', className: 'own-remove', textContent: '×' });
    remove.setAttribute('aria-label', shown(`Remove ${file.name}`));
    const item = make('li', { title: file.name }, canvas, make('span', { textContent: file.name }), remove);
    remove.addEventListener('click', () => {
      const next = item.nextElementSibling ?? item.previousElementSibling;
      this.photos.delete(file);
      item.remove();
      const focus = next?.querySelector('button') ?? this.input;
      focus.focus();
      this.all.changed();
    });
    this.photos.set(file, item);
    this.#list.append(item);
    this.all.draw(file, canvas);
  }
}

/** All products of the panel, at least one. */
export class Products {
  /** @type {Product[]} */
  #products = [];
  /** Queue of thumbnails, so that only one photo at a time is in memory. */
  #drawn = Promise.resolve();

  /**
   * @param {HTMLElement} list
   * @param {(files: File[], product: Product) => void} receive photos that were chosen for a product
   * @param {() => void} changed
   */
  constructor(list, receive, changed) {
    this.list = list;
    this.receive = receive;
    this.changed = changed;
    this.another();
  }

  /** Names and photos of all products that have photos. @returns {GoodPhotos[]} */
  get photos() {
    return this.#products.filter(({ photos }) => photos.size > 0).map(({ name, photos }) => ({ name, photos: [...photos.keys()] }));
  }

  /** Adds an empty product. */
  another(name = 'my product') {
    const names = this.#products.map(({ name }) => name);
    let free = name;
    for (let n = 2; names.includes(free); n += 1) free = `${name} ${n}`;
    const product = new Product(free, this);
    this.#products.push(product);
    this.list.append(product.element);
    this.#count();
    return product;
  }

  /**
   * The product in whose part of the panel an element is, or that has this name; else the last one.
   * @param {Element | string | null} place
   */
  at(place) {
    const found = this.#products.find(({ name, element }) => (typeof place === 'string' ? name === place : element.contains(place)));
    return found ?? this.#products[this.#products.length - 1];
  }

  /** Whether there is a product of this name. @param {string} name */
  has(name) {
    return this.#products.some((product) => product.name === name);
  }

  get count() {
    return this.#products.length;
  }

  /** The first product whose name is missing or used twice. */
  get unnamed() {
    return this.#products.find(({ name, photos }, i) => photos.size > 0 && (!name || this.#products.findIndex((other) => other.name === name) < i));
  }

  /** Removes a product with its photos. @param {Product} product */
  take(product) {
    const place = this.#products.indexOf(product);
    this.#products.splice(place, 1);
    product.element.remove();
    this.#count();
    this.#products[0].input.focus();
    this.changed();
    offerUndo(`The product ${product.name} was removed.`, () => {
      this.#products.splice(place, 0, product);
      this.list.insertBefore(product.element, this.list.children[place] ?? null);
      this.#count();
      this.changed();
    });
  }

  /**
   * Shows these products in place of the present ones.
   * @param {GoodPhotos[]} products
   */
  show(products) {
    this.#products = [];
    this.list.replaceChildren();
    if (products.length === 0) this.another();
    for (const { name, photos } of products) this.another(name).add(photos);
    this.changed();
  }

  #count() {
    for (const { remove } of this.#products) remove.hidden = this.#products.length < 2;
  }

  /**
   * Draws a photo's thumbnail. TIFF, which browsers do not decode, has none.
   * @param {File} file
   * @param {HTMLCanvasElement} canvas
   */
  draw(file, canvas) {
    this.#drawn = this.#drawn.then(async () => {
      const bitmap = await createImageBitmap(file, { resizeHeight: THUMBNAIL, resizeQuality: 'medium' }).catch(() => undefined);
      if (!bitmap) return canvas.remove();
      canvas.width = Math.min(bitmap.width, 2 * THUMBNAIL);
      canvas.height = bitmap.height;
      canvas.getContext('2d')?.drawImage(bitmap, (canvas.width - bitmap.width) / 2, 0);
      bitmap.close();
    });
  }
}
