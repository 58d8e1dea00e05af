// @ts-check
// Which cards are shown, in which order and layout.

import { byId, make } from './dom.js';

/** @import {Card} from './card.js' */

/** Key of the layout in the local storage. */
const LAYOUT = 'dinomaly-layout';

/** Distance from the view at which cards get their pictures. */
const MARGIN = '600px';

const NAMES = new Intl.Collator(undefined, { numeric: true });

export class Shelf {
  /** All cards, in order of arrival. @type {Card[]} */
  #cards = [];
  /** @type {WeakMap<Element, Card>} */
  #of = new WeakMap();
  /** Cards near the view. @type {Set<Card>} */
  #visible = new Set();
  #opacity = 1;
  #list = byId('cards', HTMLUListElement);
  #sort = byId('sort', HTMLSelectElement);
  #verdicts = byId('verdicts', HTMLSelectElement);
  #products = byId('class', HTMLSelectElement);
  #near = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        const card = this.#of.get(target);
        if (card) this.#approach(card, isIntersecting);
      }
    },
    { rootMargin: MARGIN },
  );

  /** @param {() => void} changed called after other cards are shown */
  constructor(changed) {
    this.changed = changed;
    this.#sort.addEventListener('change', () => this.#arrange());
    for (const filter of [this.#verdicts, this.#products]) filter.addEventListener('change', () => this.filter());
    byId('show-all', HTMLButtonElement).addEventListener('click', () => {
      this.#verdicts.value = this.#products.value = '';
      this.filter();
      this.#verdicts.focus();
    });
    for (const layout of ['grid', 'list']) {
      byId(`as-${layout}`, HTMLButtonElement).addEventListener('click', () => {
        this.#lay(layout);
        try {
          localStorage.setItem(LAYOUT, layout);
        } catch {
          // The browser may forbid storage.
        }
      });
    }
    this.#lay(remembered() === 'list' ? 'list' : 'grid');
  }

  get cards() {
    return this.#cards;
  }

  /** Cards that the filter lets through, in the order on the page. @returns {Card[]} */
  get shown() {
    const cards = [...this.#list.children].map((element) => this.#of.get(element));
    return cards.filter((card) => card !== undefined && !card.element.hidden).map((card) => /** @type {Card} */ (card));
  }

  /** The class that the page shows; `null` for all. */
  get product() {
    return this.#products.value || null;
  }

  /** The photo to inspect next: one in view, else the first that waits. */
  next() {
    const waiting = this.#cards.filter(({ state }) => state === 'waiting');
    return waiting.find((card) => this.#visible.has(card)) ?? waiting[0];
  }

  /** @param {Card[]} cards */
  add(cards) {
    this.#cards.push(...cards);
    for (const card of cards) {
      this.#of.set(card.element, card);
      this.#near.observe(card.element);
      card.element.hidden = !this.#passes(card);
    }
    if (this.#sort.value === 'time') this.#list.prepend(...cards.map(({ element }) => element));
    else for (const card of cards) this.#place(card);
  }

  /**
   * Fades heatmaps. Those outside the view follow when they come near, so that hundreds of photos cost no more than a few.
   * @param {number} opacity
   */
  fade(opacity) {
    this.#opacity = opacity;
    for (const card of this.#visible) card.opacity = opacity;
  }

  /**
   * @param {Card} card
   * @param {boolean} near
   */
  #approach(card, near) {
    if (near) this.#visible.add(card);
    else this.#visible.delete(card);
    if (near) card.opacity = this.#opacity;
    card.near = near;
  }

  /**
   * Shows the pictures of all cards, for print.
   * @returns {Promise<() => void>} what ends that
   */
  async showAll() {
    const far = this.#cards.filter((card) => !this.#visible.has(card));
    for (const card of far) this.#approach(card, true);
    await Promise.all(far.map((card) => card.decoded()));
    return () => {
      // Observed anew, those that are still far lose their pictures.
      for (const { element } of far.filter((card) => this.#cards.includes(card))) {
        this.#near.unobserve(element);
        this.#near.observe(element);
      }
    };
  }

  /** @param {Set<Card>} cards */
  remove(cards) {
    this.#cards = this.#cards.filter((card) => !cards.has(card));
    for (const card of cards) {
      this.#near.unobserve(card.element);
      this.#approach(card, false);
      card.element.remove();
    }
  }

  /** Puts cards back that were removed. @param {Card[]} cards */
  putBack(cards) {
    const there = new Set([...this.#cards, ...cards]);
    this.#cards = [...there].sort((a, b) => a.batch - b.batch || a.place - b.place);
    for (const card of cards) {
      this.#of.set(card.element, card);
      this.#near.observe(card.element);
      card.element.hidden = !this.#passes(card);
    }
    this.#arrange();
  }

  /** Gives a card its place after its state has changed. @param {Card} card */
  settle(card) {
    if (this.#sort.value === 'score') this.#place(card);
    const hidden = !this.#passes(card);
    if (hidden && card.element.contains(document.activeElement)) this.#verdicts.focus();
    card.element.hidden = hidden;
  }

  /** Shows the cards that the filters let through. */
  filter() {
    for (const card of this.#cards) card.element.hidden = !this.#passes(card);
    this.changed();
  }

  /** Offers the products of the photos. */
  offer() {
    const names = new Set(this.#cards.flatMap(({ result }) => result?.product ?? []));
    const present = [...this.#products.options].map(({ value }) => value).filter(Boolean);
    const wanted = [...names].sort();
    byId('product-filter', HTMLLabelElement).hidden = wanted.length === 0;
    if (present.join('\n') === wanted.join('\n') && this.#products.options.length > 0) return;
    const { value } = this.#products;
    const options = wanted.map((name) => make('option', { value: name, textContent: name }));
    this.#products.replaceChildren(make('option', { value: '', textContent: 'all' }), ...options);
    this.#products.value = names.has(value) ? value : '';
    if (this.#products.value !== value) this.filter();
  }

  /** @param {Card} card */
  #passes({ element: { dataset }, result }) {
    const wanted = this.#verdicts.value;
    const verdict = wanted === '' || (dataset.state === 'done' ? dataset.verdict : dataset.state) === wanted;
    const product = this.#products.value;
    return verdict && (product === '' || result === undefined || result.product === product);
  }

  /** Orders all cards anew. Focus stays where it is. */
  #arrange() {
    const focused = document.activeElement;
    const sorted = [...this.#cards].sort((a, b) => this.#compare(a, b));
    this.#list.replaceChildren(...sorted.map(({ element }) => element));
    if (focused instanceof HTMLElement && this.#list.contains(focused)) focused.focus({ preventScroll: true });
    this.changed();
  }

  /** Moves one card to its place among the others. @param {Card} card */
  #place(card) {
    const { element } = card;
    // Moving an element takes its focus.
    const focused = element.contains(document.activeElement) ? document.activeElement : null;
    const after = [...this.#list.children].find((other) => {
      const there = this.#of.get(other);
      return there !== undefined && there !== card && this.#compare(card, there) < 0;
    });
    if (after !== element.nextElementSibling || !element.isConnected) this.#list.insertBefore(element, after ?? null);
    if (focused instanceof HTMLElement) focused.focus({ preventScroll: true });
  }

  /**
   * @param {Card} a
   * @param {Card} b
   */
  #compare(a, b) {
    // Photos that came together keep their order.
    const newest = b.batch - a.batch || a.place - b.place;
    if (this.#sort.value === 'name') return NAMES.compare(a.name, b.name) || newest;
    if (this.#sort.value === 'score') return rank(b) - rank(a) || newest;
    return newest;
  }

  /** @param {string} layout */
  #lay(layout) {
    this.#list.classList.toggle('list', layout === 'list');
    for (const name of ['grid', 'list']) byId(`as-${name}`, HTMLButtonElement).setAttribute('aria-pressed', String(name === layout));
  }
}

/** Score, or less than any for photos without one. @param {Card} card */
const rank = ({ result }) => result?.score ?? -Infinity;

function remembered() {
  try {
    return localStorage.getItem(LAYOUT);
  } catch {
    return null;
  }
}

/**
 * Button that takes the focus of a removed card: the next one's, or the one's before.
 * @param {Card} card
 * @returns {HTMLElement | undefined}
 */
export function neighbour({ element }) {
  for (const side of /** @type {const} */ (['nextElementSibling', 'previousElementSibling'])) {
    let other = element[side];
    while (other instanceof HTMLElement && other.hidden) other = other[side];
    const button = other?.querySelector('button');
    if (button) return button;
  }
  return undefined;
}
