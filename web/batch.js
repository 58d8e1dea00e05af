// @ts-check
// Pause of a batch, and the time that it has left.

import { byId } from './dom.js';

/** Photos of a batch after which its time can be told. */
const ENOUGH = 5;

export class Batch {
  paused = false;
  /** Beginning of the present run, without pauses, and photos inspected since. @type {{begun: number, done: number} | undefined} */
  #run;
  #button = byId('pause', HTMLButtonElement);
  #left = byId('time-left', HTMLSpanElement);

  /** @param {() => void} goOn called when the pause is over */
  constructor(goOn) {
    this.#button.addEventListener('click', () => {
      this.paused = !this.paused;
      this.#run = undefined;
      this.#button.textContent = this.paused ? 'Go on' : 'Pause';
      if (this.paused) this.#left.textContent = 'paused';
      else goOn();
    });
  }

  /** Counts an inspected photo. */
  count() {
    if (this.#run) this.#run.done += 1;
  }

  /** @param {number} waiting photos that wait or are being inspected; none of them if there is no detector */
  show(waiting) {
    const hidden = waiting < 2 && !this.paused;
    if (hidden && document.activeElement === this.#button) byId('clear', HTMLButtonElement).focus();
    this.#button.hidden = hidden;
    if (this.paused) return;
    if (waiting === 0) this.#run = undefined;
    else this.#run ??= { begun: performance.now(), done: 0 };
    const { begun, done } = this.#run ?? { begun: 0, done: 0 };
    const milliseconds = ((performance.now() - begun) / done) * waiting;
    this.#left.textContent = done < ENOUGH || waiting < ENOUGH ? '' : `${duration(milliseconds)} left`;
  }
}

/** @param {number} milliseconds */
function duration(milliseconds) {
  const seconds = milliseconds / 1000;
  if (seconds < 50) return `about ${Math.max(10, Math.ceil(seconds / 10) * 10)} seconds`;
  const minutes = Math.ceil(seconds / 60);
  if (minutes < 100) return minutes === 1 ? 'about a minute' : `about ${minutes} minutes`;
  return `about ${Math.round(minutes / 60)} hours`;
}
