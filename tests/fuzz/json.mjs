// JSON with some of its numbers, names and entries changed, as tests/src/mutation/json.rs does it.

/** The source of all decisions about a changed text: equal for equal seeds. */
export class Choices {
  #state;

  /** @param {number} seed */
  constructor(seed) {
    this.#state = seed;
  }

  /** A number below `count`, which is not 0. @param {number} count */
  below(count) {
    // SplitMix32.
    this.#state = (this.#state + 0x9e3779b9) | 0;
    let mixed = this.#state ^ (this.#state >>> 16);
    mixed = Math.imul(mixed, 0x21f0aaad);
    mixed ^= mixed >>> 15;
    mixed = Math.imul(mixed, 0x735a2d97);
    return ((mixed ^ (mixed >>> 15)) >>> 0) % count;
  }

  /** True once in so many times. @param {number} times */
  oneIn(times) {
    return this.below(times) === 0;
  }

  /** @template T @param {T[]} items @returns {T} */
  pick(items) {
    return items[this.below(items.length)];
  }
}

/**
 * Makes some changes anywhere in a value, mostly one, so that the others do not hide what it does.
 * @param {Choices} choices
 * @param {any} value
 */
export function change(choices, value) {
  const whole = { value };
  for (let left = choices.pick([1, 1, 1, 2, 3, 8]); left > 0; left -= 1) {
    const places = list(whole, 'value');
    const { holder, key } = choices.pick(places);
    const found = holder[key];
    const taken = choices.pick(places);
    const other = structuredClone(taken.holder[taken.key]);
    if (typeof found === 'number') holder[key] = number(choices, found);
    else if (typeof found === 'string') holder[key] = string(choices, found);
    else if (Array.isArray(found) && found.length > 0) changeList(choices, found, other);
    else if (found && Object.keys(found).length > 0) changeObject(choices, found, other, String(choices.pick(places).key));
    else holder[key] = other;
  }
  return whole.value;
}

/**
 * @param {Choices} choices
 * @param {any[]} items
 * @param {any} other
 */
function changeList(choices, items, other) {
  const at = choices.below(items.length);
  const how = choices.below(4);
  if (how === 0) items.splice(at, 1);
  else if (how === 1) items.push(structuredClone(items[at]));
  else if (how === 2) items.length = 0;
  else items[at] = other;
}

/**
 * @param {Choices} choices
 * @param {any} entries
 * @param {any} other
 * @param {string} name another name
 */
function changeObject(choices, entries, other, name) {
  const key = choices.pick(Object.keys(entries));
  const how = choices.below(4);
  const taken = entries[key];
  if (how === 1) entries[key] = other;
  else delete entries[key];
  // As a parser does it, which knows no setters.
  const put = choices.oneIn(8) ? choices.pick(['__proto__', 'constructor', 'length', 'then', '']) : name;
  if (how > 1) Object.defineProperty(entries, put, { value: taken, writable: true, enumerable: true, configurable: true });
}

/** Numbers at the limits of types. @param {Choices} choices @param {number} near */
function number(choices, near) {
  return choices.pick([
    0, 1, -1, near + 1, near - 1, near * 2, 255, 256, 65_536, 2 ** 31 - 1, 2 ** 32 - 1, 2 ** 32, 2 ** 53, 2 ** 63, -(2 ** 63), 2 ** 64,
    1e308, 1e-308, 0.5, -0.5,
  ]);
}

/** Another text: empty, long, of digits, cut, doubled, with a path. @param {Choices} choices @param {string} text */
function string(choices, text) {
  return choices.pick([
    '', 'a'.repeat(10_000), text.replace(/[0-9]/g, '9'), text.slice(0, text.length / 2), text.repeat(2), `../${text}`, text.toUpperCase(), '0',
    `//host/${text}`, `data:,${text}`, `http://[${text}`, `./${text}#`, `\u202e${text}`, '.', '%',
  ]);
}

/**
 * Everything in a value; of long lists of numbers the first and the last.
 * @param {any} holder
 * @param {string} key
 * @param {{holder: any, key: string}[]} places
 */
function list(holder, key, places = []) {
  const value = holder[key];
  if (value !== null && typeof value === 'object') {
    const keys = Object.keys(value);
    const far = (/** @type {string} */ name, /** @type {number} */ i) => typeof value[name] === 'number' && i > 2 && i + 1 < keys.length;
    for (const [i, name] of keys.entries()) if (!Array.isArray(value) || !far(name, i)) list(value, name, places);
  }
  places.push({ holder, key });
  return places;
}
