// @ts-check
// Which device is faster: both are timed in the background, once for each GPU and model, and this browser keeps the times.

import { Detector } from './detector.js';
import { cacheStorage } from './download.js';
import { HOST } from './host.js';
import { rememberTimes } from './kept.js';

/** @import {Description, Index, ModelEntry, Times} from './types.js' */
/** @import {Pool} from './pool.js' */

/** Photos on the GPU, of which the fastest counts: the first one is slower. */
const PHOTOS = 3;

/**
 * Times a photo on the GPU that is open, and the self-test on the processor. Undefined if there was other work meanwhile, or if the
 * processor cannot be opened without a download of the model.
 * @param {Index} index
 * @param {ModelEntry} model
 * @param {Description} description
 * @param {Pool} gpu
 * @param {() => boolean} busy
 * @returns {Promise<Times | undefined>}
 */
export async function timeBoth(index, model, { device, inputSide, selfTested }, gpu, busy) {
  if (!device.adapter || device.times || !selfTested || model.made || !cacheStorage()) return;
  const processor = new Detector(index, model, 'wasm', () => {}, HOST);
  try {
    const picture = await draw(inputSide);
    let fastest = Infinity;
    for (let i = 0; i < PHOTOS; i += 1) {
      if (busy()) return;
      const { timings } = await gpu.detect(picture, null, () => {});
      fastest = Math.min(fastest, timings.detect);
    }
    const { timings } = await processor.open();
    if (busy()) return;
    const times = { gpu: fastest, processor: timings.selfTest };
    rememberTimes(device.adapter, times);
    return times;
  } catch {
    // The page goes on as it is: another model was chosen, or a device does not work.
  } finally {
    processor.close();
  }
}

/**
 * A picture of the size that the model sees.
 * @param {number} side
 */
async function draw(side) {
  const canvas = new OffscreenCanvas(side, side);
  const context = canvas.getContext('2d');
  for (let i = 0; context && i < side; i += 16) {
    context.fillStyle = `hsl(${i} 60% 50%)`;
    context.fillRect(i, i / 2, 12, side / 2);
  }
  return new File([await canvas.convertToBlob()], 'a picture for the stopwatch');
}
