// @ts-check
// Elements of the page.

/**
 * Element with this id, which must be of this type.
 * @template {Element} T
 * @param {string} id
 * @param {new () => T} type
 * @returns {T}
 */
export function byId(id, type) {
  const element = /** @type {Element | null} */ (document.getElementById(id));
  if (!(element instanceof type)) throw new Error(`the page has no ${type.name} ${id}`);
  return element;
}

/**
 * A name with marks of reading direction and control characters written out, as the program does it (native/src/system/shown.rs):
 * `photo\u202egnp.exe` would else be read as a PNG.
 * @param {string} text
 */
export function shown(text) {
  const code = (/** @type {string} */ mark) => `\\u${mark.charCodeAt(0).toString(16).padStart(4, '0')}`;
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g, code);
}

/**
 * New element. Its text and title are {@link shown}.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Partial<HTMLElementTagNameMap[K]>} properties
 * @param {(Node | string)[]} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  if (properties.textContent) element.textContent = shown(properties.textContent);
  if (properties.title) element.title = shown(properties.title);
  element.append(...children.map((child) => (typeof child === 'string' ? shown(child) : child)));
  return element;
}

/**
 * Message of a thrown value: our own, or a sentence in place of the engine's.
 * @param {unknown} error
 */
export function sentence(error) {
  // Our own are of the plain class.
  if (error instanceof Error && error.constructor === Error) return error.message;
  console.warn('the page failed:', error);
  return 'the page failed in an unexpected way: try again, or load the page again';
}
