// @ts-check
// Canvas of the large view: a photo with its heatmap, zoomed and moved.

import { hatch } from './picture.js';

/** @import {Region} from './types.js' */

/** @typedef {'heat' | 'outline' | 'side' | 'swipe'} Mode */

/**
 * What is shown: lengths are in pixels of the photo.
 * @typedef {object} Scene
 * @property {ImageBitmap} photo may be a smaller copy
 * @property {OffscreenCanvas | ImageBitmap | null} heat
 * @property {[number, number, number, number]} region inspected part
 * @property {number} width
 * @property {number} height
 * @property {Region[]} regions
 */

/** Largest size of a photo's pixel, in pixels of the screen. */
const LARGEST = 64;

/** Colours of outlines: the program's cyan, on a dark rim that shows on bright photos. */
const LINE = '#00ffff';
const RIM = 'rgb(0 0 0 / 70%)';

export class View {
  /** @type {Scene | undefined} */
  #scene;
  /** @type {Mode} */
  #mode = 'heat';
  #opacity = 0.55;
  #hidden = false;
  #swipe = 0.5;
  /** Pixels of the screen to a pixel of the photo, and the place in the middle of the view. */
  #scale = 1;
  #centre = { x: 0, y: 0 };
  #fitted = true;
  #due = false;

  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    new ResizeObserver(() => this.#resize()).observe(canvas);
  }

  /**
   * @param {Scene | undefined} scene
   * @param {boolean} keepPlace whether zoom and place stay
   */
  show(scene, keepPlace = false) {
    this.#scene = scene;
    if (scene && !keepPlace) this.fit();
    this.#redraw();
  }

  /** @param {Mode} mode */
  set mode(mode) {
    this.#mode = mode;
    if (this.#fitted) this.fit();
    this.#redraw();
  }

  /** @param {number} opacity of the heatmap, 0 to 1 */
  set opacity(opacity) {
    this.#opacity = opacity;
    this.#redraw();
  }

  /** @param {boolean} hidden whether only the photo is shown */
  set hidden(hidden) {
    this.#hidden = hidden;
    this.#redraw();
  }

  /** @param {number} share of the view's width left of the border between photo and heatmap */
  set swipe(share) {
    this.#swipe = share;
    this.#redraw();
  }

  /** Pixels of the screen to a pixel of the photo. */
  get scale() {
    return this.#scale;
  }

  /** Shows the whole photo. */
  fit() {
    const { width, height } = this.#scene ?? { width: 1, height: 1 };
    this.#scale = this.#whole();
    this.#centre = { x: width / 2, y: height / 2 };
    this.#fitted = true;
    this.#redraw();
  }

  /**
   * @param {number} factor
   * @param {{x: number, y: number}} [at] place on the canvas that stays, in CSS pixels
   */
  zoom(factor, at) {
    const whole = this.#whole();
    const scale = Math.min(Math.max(this.#scale * factor, whole), Math.max(LARGEST, whole));
    const { x, y } = at ? this.place(at) : this.#centre;
    this.#centre = {
      x: x + ((this.#centre.x - x) * this.#scale) / scale,
      y: y + ((this.#centre.y - y) * this.#scale) / scale,
    };
    this.#scale = scale;
    this.#fitted = scale === whole;
    this.#bound();
  }

  /** Shows the photo's pixels one to one, around the middle. */
  pixels() {
    this.zoom(1 / this.#scale);
  }

  /**
   * Moves the photo, in CSS pixels.
   * @param {number} x
   * @param {number} y
   */
  move(x, y) {
    const by = devicePixelRatio / this.#scale;
    this.#centre = { x: this.#centre.x - x * by, y: this.#centre.y - y * by };
    this.#bound();
  }

  /** Shows a part of the photo. @param {[number, number, number, number]} box */
  look([x0, y0, x1, y1]) {
    const { width, height } = this.#pane();
    const scale = Math.min(width / (x1 - x0), height / (y1 - y0)) / 3;
    this.zoom(scale / this.#scale);
    this.#centre = { x: (x0 + x1) / 2, y: (y0 + y1) / 2 };
    this.#bound();
  }

  /** The photo's place at a place on the canvas, in CSS pixels. @param {{x: number, y: number}} at */
  place({ x, y }) {
    const pane = this.#pane();
    const across = (x * devicePixelRatio) % pane.width;
    return {
      x: this.#centre.x + (across - pane.width / 2) / this.#scale,
      y: this.#centre.y + (y * devicePixelRatio - pane.height / 2) / this.#scale,
    };
  }

  get centre() {
    return this.#centre;
  }

  /** Size of a picture on the canvas: side by side there are two. */
  #pane() {
    const { width, height } = this.canvas;
    return { width: Math.max(1, this.#mode === 'side' ? width / 2 : width), height: Math.max(1, height) };
  }

  /** Scale at which the whole photo is seen. */
  #whole() {
    const { width, height } = this.#scene ?? { width: 1, height: 1 };
    const pane = this.#pane();
    return Math.min(pane.width / width, pane.height / height);
  }

  /** Keeps the middle of the view on the photo. */
  #bound() {
    const { width, height } = this.#scene ?? { width: 0, height: 0 };
    const pane = this.#pane();
    const within = (/** @type {number} */ at, /** @type {number} */ side, /** @type {number} */ seen) =>
      seen >= side ? side / 2 : Math.min(Math.max(at, seen / 2), side - seen / 2);
    this.#centre = {
      x: within(this.#centre.x, width, pane.width / this.#scale),
      y: within(this.#centre.y, height, pane.height / this.#scale),
    };
    this.#redraw();
  }

  #resize() {
    const { clientWidth, clientHeight } = this.canvas;
    this.canvas.width = Math.max(1, Math.round(clientWidth * devicePixelRatio));
    this.canvas.height = Math.max(1, Math.round(clientHeight * devicePixelRatio));
    if (this.#fitted) this.fit();
    // An empty canvas would flash until the next frame.
    this.#draw();
  }

  #redraw() {
    if (this.#due) return;
    this.#due = true;
    requestAnimationFrame(() => {
      this.#due = false;
      this.#draw();
    });
  }

  #draw() {
    const context = this.canvas.getContext('2d');
    if (!context) return;
    const { width, height } = this.canvas;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    if (!this.#scene) return;
    if (this.#mode === 'side') {
      this.#picture(context, 0, [0, width / 2], false);
      this.#picture(context, width / 2, [width / 2, width], true);
      divide(context, width / 2, height);
    } else if (this.#mode === 'swipe') {
      const border = Math.round(width * this.#swipe);
      this.#picture(context, 0, [0, border], false);
      this.#picture(context, 0, [border, width], true);
      divide(context, border, height);
    } else {
      this.#picture(context, 0, [0, width], this.#mode === 'heat');
      if (this.#mode === 'outline' && !this.#hidden) this.#outlines(context);
    }
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {number} left left border of the pane
   * @param {[number, number]} part of the canvas that is drawn, from left to right
   * @param {boolean} withHeat
   */
  #picture(context, left, [start, end], withHeat) {
    const { photo, heat, region, width, height, regions } = /** @type {Scene} */ (this.#scene);
    context.save();
    context.beginPath();
    context.rect(start, 0, end - start, this.canvas.height);
    context.clip();
    this.#transform(context, left);
    context.imageSmoothingEnabled = this.#scale < 1;
    context.drawImage(photo, 0, 0, width, height);
    context.imageSmoothingEnabled = true;
    if (withHeat && heat && !this.#hidden) {
      const [x0, y0, x1, y1] = region;
      context.globalAlpha = this.#opacity;
      context.drawImage(heat, x0, y0, x1 - x0, y1 - y0);
      context.globalAlpha = 1;
    }
    hatch(context, width, height, region);
    if (withHeat && !this.#hidden) for (const [i, { box }] of regions.entries()) this.#box(context, box, i + 1);
    context.restore();
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {number} left
   */
  #transform(context, left) {
    const pane = this.#pane();
    const { x, y } = this.#centre;
    const scale = this.#scale;
    context.setTransform(scale, 0, 0, scale, left + pane.width / 2 - x * scale, pane.height / 2 - y * scale);
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {[number, number, number, number]} box
   * @param {number} number
   */
  #box(context, [x0, y0, x1, y1], number) {
    const path = new Path2D();
    path.rect(x0, y0, x1 - x0, y1 - y0);
    this.#stroke(context, path);
    const unit = devicePixelRatio / this.#scale;
    context.font = `600 ${12 * unit}px system-ui, sans-serif`;
    context.lineWidth = 3 * unit;
    context.strokeStyle = RIM;
    context.fillStyle = LINE;
    const at = /** @type {const} */ ([x0 + 3 * unit, Math.max(y0 - 4 * unit, 12 * unit)]);
    context.strokeText(String(number), ...at);
    context.fillText(String(number), ...at);
  }

  /** @param {CanvasRenderingContext2D} context */
  #outlines(context) {
    context.save();
    this.#transform(context, 0);
    const path = new Path2D();
    for (const { outline } of this.#scene?.regions ?? []) {
      outline.forEach(([x, y], i) => (i === 0 ? path.moveTo(x, y) : path.lineTo(x, y)));
      path.closePath();
    }
    this.#stroke(context, path);
    context.restore();
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {Path2D} path
   */
  #stroke(context, path) {
    const unit = devicePixelRatio / this.#scale;
    for (const [style, width] of /** @type {const} */ ([[RIM, 4], [LINE, 2]])) {
      context.strokeStyle = style;
      context.lineWidth = width * unit;
      context.stroke(path);
    }
  }
}

/**
 * Line between two pictures.
 * @param {CanvasRenderingContext2D} context
 * @param {number} x
 * @param {number} height
 */
function divide(context, x, height) {
  context.fillStyle = RIM;
  context.fillRect(x - 2, 0, 4, height);
  context.fillStyle = '#ffffff';
  context.fillRect(x - 1, 0, 2, height);
}
