// @ts-check
// Canvas with a photo and its heatmap.

/** @import {Detection} from './types.js' */

/** Shortest length of the canvas's longer side in pixels. Small photos are enlarged, so that the heatmap stays sharp. */
const SMALLEST = 640;

/** @type {HTMLCanvasElement | undefined} */
let stripes;

export class Picture {
  #photo;
  /** @type {HTMLCanvasElement | undefined} */
  #heat;
  #region;

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {Detection} detection
   */
  constructor(canvas, detection) {
    const { preview, previewWidth, region, width, height } = detection;
    this.canvas = canvas;
    this.#photo = picture(preview, previewWidth);
    const enlarged = Math.max(1, SMALLEST / Math.max(this.#photo.width, this.#photo.height));
    canvas.width = Math.round(this.#photo.width * enlarged);
    canvas.height = Math.round(this.#photo.height * enlarged);
    const [across, down] = [canvas.width / width, canvas.height / height];
    this.#region = region.map((edge, i) => edge * (i % 2 === 0 ? across : down));
  }

  /**
   * @param {Uint8Array<ArrayBuffer>} rgba
   * @param {number} width
   */
  paint(rgba, width) {
    this.#heat = picture(new Uint8ClampedArray(rgba), width);
  }

  /** @param {number} opacity of the heatmap, 0 to 1 */
  draw(opacity) {
    const context = this.canvas.getContext('2d');
    if (!context) return;
    const { width, height } = this.canvas;
    const [x0, y0, x1, y1] = this.#region;
    context.globalAlpha = 1;
    context.drawImage(this.#photo, 0, 0, width, height);
    if (this.#heat) {
      context.globalAlpha = opacity;
      context.drawImage(this.#heat, x0, y0, x1 - x0, y1 - y0);
    }
    context.globalAlpha = 1;
    const border = new Path2D();
    border.rect(0, 0, width, height);
    border.rect(x0, y0, x1 - x0, y1 - y0);
    context.save();
    context.clip(border, 'evenodd');
    context.globalCompositeOperation = 'saturation';
    context.fillStyle = 'grey';
    context.fillRect(0, 0, width, height);
    context.globalCompositeOperation = 'source-over';
    const pattern = context.createPattern(hatch(), 'repeat');
    // About the same width on the screen for every size of photo.
    pattern?.setTransform(new DOMMatrix().scale(Math.max(width, height) / 480));
    context.fillStyle = pattern ?? 'grey';
    context.fillRect(0, 0, width, height);
    context.restore();
  }
}

/**
 * Canvas of pixels, for drawing.
 * @param {Uint8ClampedArray<ArrayBuffer>} rgba
 * @param {number} width
 */
function picture(rgba, width) {
  const canvas = document.createElement('canvas');
  canvas.width = width;
  canvas.height = rgba.length / 4 / width;
  canvas.getContext('2d')?.putImageData(new ImageData(rgba, width), 0, 0);
  return canvas;
}

/** Tile of diagonal stripes. */
function hatch() {
  if (stripes) return stripes;
  const side = 12;
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = side;
  const context = canvas.getContext('2d');
  if (context) {
    context.fillStyle = 'rgb(110 110 116 / 55%)';
    context.fillRect(0, 0, side, side);
    context.strokeStyle = 'rgb(205 205 212 / 60%)';
    context.lineWidth = side / 3.2;
    context.beginPath();
    for (const start of [-side, 0, side]) {
      context.moveTo(start - 2, side + 2);
      context.lineTo(start + side + 2, -2);
    }
    context.stroke();
  }
  stripes = canvas;
  return canvas;
}
