// @ts-check
// What this browser keeps of its devices from one visit to the next, in the local storage.

/** @import {Times} from './types.js' */

/** Key of the GPU's tuning. */
const TUNING = 'dinomaly-gpu';

/** Key of the times on both devices. */
const TIMES = 'dinomaly-times';

/** Largest number of GPUs and models whose times are kept. */
const MOST = 20;

/** Tuning of this browser's GPU from an earlier visit. */
export function recall() {
  return read(TUNING);
}

/** @param {string | null} tuning */
export function remember(tuning) {
  if (tuning) write(TUNING, tuning);
}

/** Times by model and GPU. @returns {Record<string, Times>} */
export function recallTimes() {
  try {
    return JSON.parse(read(TIMES) ?? '{}');
  } catch {
    // Written by another page of this origin.
    return {};
  }
}

/**
 * @param {string} key
 * @param {Times} times
 */
export function rememberTimes(key, times) {
  const others = Object.entries(recallTimes()).filter(([other]) => other !== key);
  write(TIMES, JSON.stringify(Object.fromEntries([...others, [key, times]].slice(-MOST))));
}

/** Forgets tuning and times. */
export function forgetDevices() {
  try {
    for (const key of [TUNING, TIMES]) storage()?.removeItem(key);
  } catch {
    // Nothing was kept.
  }
}

/** Pages alone have it, and Node from version 25 on warns if it is asked for it. */
const storage = () => (globalThis.document ? localStorage : undefined);

/** @param {string} key */
function read(key) {
  try {
    return storage()?.getItem(key) ?? null;
  } catch {
    // The browser may forbid storage.
    return null;
  }
}

/**
 * @param {string} key
 * @param {string} value
 */
function write(key, value) {
  try {
    storage()?.setItem(key, value);
  } catch {
    // The next visit measures again.
  }
}
