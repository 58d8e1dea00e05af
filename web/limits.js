// @ts-check
// How long the page waits for what may never come. After that the next way is taken, or the visitor is asked.

/** Limits in milliseconds. */
export const LIMITS = {
  /** A script, or the beginning of an answer, or the next piece of a download. */
  server: 20_000,
  /** The browser's cache. */
  cache: 5_000,
  /** The choice of a GPU. */
  adapter: 5_000,
  /** The opening of a GPU, on a first visit with its tuning. */
  device: 60_000,
  /** The self-test on a GPU, with the compilation of its kernels. */
  selfTest: 120_000,
  /** A photo on a GPU, in tiles too. */
  photo: 300_000,
  /** Anything else, before the page says that it takes long. */
  patience: 30_000,
};

/**
 * The outcome of a promise, or that of `late` once the time is over.
 * @template T
 * @param {Promise<T>} promise
 * @param {number} milliseconds
 * @param {() => T} late
 * @returns {Promise<T>}
 */
export function within(promise, milliseconds, late) {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  const end = new Promise((resolve) => {
    timer = setTimeout(resolve, milliseconds);
  }).then(late);
  return Promise.race([promise, end]).finally(() => clearTimeout(timer));
}

/**
 * Error with a name, by which the page chooses the next way.
 * @param {string} name
 * @param {string} message
 */
export function named(name, message) {
  return Object.assign(new Error(message), { name });
}

/** Error after which another device may succeed. @param {string} reason */
export const unusable = (reason) => named('DeviceError', reason);

/** Error after which another try may succeed. @param {string} reason */
export const unreachable = (reason) => named('NetworkError', reason);
