// @ts-check
// What the page's modules hand to each other. Types alone: nothing here runs.

/**
 * `models.json`, written by `dinomaly site`. Paths are relative to the page.
 * @typedef {object} Index
 * @property {number} version
 * @property {Modules} modules
 * @property {ModelEntry[]} models
 * @property {Sample[]} samples
 */

/**
 * What computes: on the GPU, on the processor, and on the processor where the browser has relaxed SIMD. The demo has `cpu` alone
 * until the others are built.
 * @typedef {{gpu?: Module, cpu: Module, relaxed?: Module}} Modules
 */

/**
 * One of them, in its two halves. Their paths change with the content.
 * @typedef {object} Module
 * @property {string} glue path of its JavaScript
 * @property {string} wasm path of its WebAssembly
 * @property {number} bytes size of `wasm`
 */

/**
 * @typedef {object} ModelEntry
 * @property {string} id changes with the model's content
 * @property {string} name
 * @property {string[]} classes
 * @property {number} bytes of all files
 * @property {string} manifest path
 * @property {Record<string, string>} files paths by name
 */

/**
 * @typedef {object} Sample
 * @property {string} name
 * @property {string | null} class
 * @property {string} path
 */

/** @typedef {'auto' | 'webgpu' | 'wasm'} DeviceChoice */

/**
 * A model that runs, and what it runs on.
 * @typedef {object} Description
 * @property {string} name
 * @property {string} encoder
 * @property {number} parameters
 * @property {number} inputSide in pixels
 * @property {{name: string, threshold: number}[]} classes
 * @property {number} threshold for photos whose class is not chosen
 * @property {boolean} selfTested
 * @property {Device} device
 * @property {string[]} refused the faster precisions that the self-test refused
 * @property {{download: number, compile: number, upload: number, selfTest: number}} timings in milliseconds; what the
 *   module's compilation took is part of the download, during which it happens
 */

/**
 * @typedef {object} Device
 * @property {'webgpu' | 'wasm'} kind
 * @property {string | null} name maker and model of a GPU, as far as the browser tells
 * @property {boolean} software whether the GPU is only emulated
 * @property {'f32' | 'f16' | 'int8'} precision what linear layers are computed in
 * @property {string | null} tuning what was found out about a GPU, to be told again when it is opened the next time
 * @property {string | null} [fallback] why the processor had to be taken
 */

/**
 * A file of a model.
 * @typedef {{name: string, bytes: number, sha256: string, weights: boolean}} FileListed
 */

/**
 * What a kernel took on the GPU, in all.
 * @typedef {{kernel: string, count: number, milliseconds: number}} KernelTime
 */

/**
 * What the detector says about a photo.
 * @typedef {object} Detection
 * @property {number} score
 * @property {[number, number, number, number]} region the part that was looked at: x0, y0, x1, y1 in pixels of the photo
 * @property {number} width of the photo, upright
 * @property {number} height
 * @property {number} side of the map
 * @property {Float32Array} map `side · side` anomaly values, row by row
 * @property {number} previewWidth
 * @property {{class: string | null, rgba: Uint8Array<ArrayBuffer>}} colours of the map, as they are for the class
 * @property {Uint8ClampedArray<ArrayBuffer>} preview the photo, small, RGBA
 * @property {{decode: number, detect: number}} timings in milliseconds
 */

/**
 * @typedef {object} Progress
 * @property {'download' | 'prepare'} phase
 * @property {number} loaded bytes
 * @property {number} total bytes
 */

/**
 * What the page asks the worker. Each request but the first is answered under its number.
 * @typedef {{kind: 'open', id: number, base: string, index: Index, model: ModelEntry, device: DeviceChoice, tuning: string | null}
 *   | {kind: 'detect', id: number, name: string, bytes: ArrayBuffer, class: string | null}
 *   | {kind: 'colours', id: number, map: Float32Array, class: string | null}
 *   | {kind: 'profile', id: number}
 *   | {kind: 'kernels', id: number}} Request
 */

/**
 * What the worker says. A refusal's name is `DeviceError` where another device may do better, and `Crash` where the
 * worker cannot go on.
 * @typedef {{kind: 'progress', progress: Progress}
 *   | {kind: 'answer', id: number, value: any}
 *   | {kind: 'refusal', id: number, name: string, message: string}} Message
 */

export {};
