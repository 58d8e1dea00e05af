// @ts-check
// Types of the data that the page's modules exchange. No code.

/**
 * `models.json`, written by `dinomaly site`. Paths are relative to the page.
 * @typedef {object} Index
 * @property {number} version
 * @property {string} [program] version of the program that wrote the site
 * @property {Modules} modules
 * @property {ModelEntry[]} models
 * @property {EncoderEntry[]} encoders that detectors can be made with
 * @property {Sample[]} samples
 * @property {Thumbnails} [thumbnails] of the samples, in their order
 */

/**
 * Modules of the detector: for the GPU, for the CPU, and for the CPU in browsers with relaxed SIMD. The demo has `cpu` alone until
 * the others are built.
 * @typedef {{gpu?: Module, cpu: Module, relaxed?: Module}} Modules
 */

/**
 * A module of the detector, in two files. Their paths change with the content.
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
 * @property {Record<string, Blob>} [made] contents by name, `manifest.json` included, of a model that is not on the site; those that `files`
 *   has are fetched
 * @property {'here' | 'file'} [origin] where such a model is from: made here, or opened from a zip
 */

/**
 * What has an encoder: an encoder without a head, or a model.
 * @typedef {Pick<ModelEntry, 'id' | 'name' | 'bytes' | 'manifest' | 'files' | 'made'>} EncoderEntry
 */

/**
 * A model made of photos of good parts.
 * @typedef {object} Made
 * @property {{name: string, content: Uint8Array<ArrayBuffer>}[]} files without the shards of the encoder, `manifest.json` last
 * @property {{product: string, doubt: string}[]} doubts what the photos do not tell about a threshold
 * @property {string} memory
 */

/** A photo of a good part. @typedef {{file: File, product: string}} GoodPhoto */

/**
 * @typedef {object} Sample
 * @property {string} name
 * @property {string | null} class
 * @property {'good' | 'defective'} [truth] if it is known
 * @property {string} path
 */

/**
 * One picture of squares, row by row.
 * @typedef {{path: string, columns: number}} Thumbnails
 */

/** @typedef {'auto' | 'webgpu' | 'wasm'} DeviceChoice */

/**
 * What runs a detector.
 * @typedef {object} Host
 * @property {string} base address that relative paths of the index start from
 * @property {() => Promise<Worker>} start starts a worker
 * @property {(reason: Error) => void} lost called when no device is left
 */

/**
 * A photo: a file, or pixels in its place.
 * @typedef {object} Source
 * @property {string} name
 * @property {() => Promise<ArrayBuffer>} arrayBuffer the file's bytes, or RGBA of each pixel
 * @property {{width: number, height: number}} [pixels] size, if these are pixels; certain once `arrayBuffer` has given them
 */

/**
 * What a model says of a class.
 * @typedef {object} Calibration
 * @property {number} threshold
 * @property {number | null} [pixelThreshold] value above which a pixel belongs to a region
 * @property {{count: number, quantiles: {level: number, score: number}[]}} [good] scores of good photos
 */

/**
 * A running model and its device.
 * @typedef {object} Description
 * @property {string} name
 * @property {string} encoder
 * @property {number} parameters
 * @property {number} inputSide in pixels
 * @property {({name: string} & Calibration)[]} classes
 * @property {number} threshold for photos of no class
 * @property {Calibration['pixelThreshold']} [pixelThreshold]
 * @property {Calibration['good']} [good]
 * @property {boolean} [heldOut] whether the good photos of `good` were held out from training
 * @property {boolean} selfTested
 * @property {Device} device
 * @property {string[]} refused faster precisions that failed the self-test
 * @property {{download: number, compile: number, upload: number, selfTest: number}} timings in milliseconds; the download
 *   includes the module's compilation and the upload, which happen meanwhile
 */

/**
 * @typedef {object} Device
 * @property {'webgpu' | 'wasm'} kind
 * @property {string | null} name maker and model of a GPU, if the browser tells
 * @property {boolean} software whether the GPU is emulated
 * @property {'f32' | 'f16' | 'int8'} precision precision of linear layers
 * @property {string | null} tuning tuning of a GPU, for the next visit
 * @property {string | null} [fallback] reason for the fallback to the CPU
 * @property {string} [adapter] key of a GPU's and model's kept times, if it was chosen automatically
 * @property {Times} [times]
 */

/** Milliseconds for a photo. @typedef {{gpu: number, processor: number}} Times */

/**
 * A file of a model.
 * @typedef {{name: string, bytes: number, sha256: string, weights: boolean}} FileListed
 */

/**
 * Total time of a kernel on the GPU.
 * @typedef {{kernel: string, count: number, milliseconds: number}} KernelTime
 */

/**
 * Result of the detector on a photo.
 * @typedef {object} Detection
 * @property {number} score
 * @property {[number, number, number, number]} region inspected part: x0, y0, x1, y1 in pixels of the photo
 * @property {number} width of the photo, upright
 * @property {number} height
 * @property {number} mapWidth of the map in pixels
 * @property {number} mapHeight
 * @property {Float32Array} map anomaly values, row by row
 * @property {string | null} nearest product whose good photos are nearest; `null` if the model does not tell products
 * @property {boolean} unknown unlike anything that the model knows: neither good nor defective
 * @property {Region[]} [regions] for the class; absent if the model has no pixel threshold
 * @property {number} previewWidth
 * @property {Uint8ClampedArray<ArrayBuffer>} preview the photo, small, RGBA
 * @property {{decode: number, detect: number}} timings in milliseconds
 */

/** @typedef {'good' | 'defective' | 'unknown'} Verdict */

/** What the visitor says of a photo. @typedef {'good' | 'bad' | null} Label */

/**
 * A connected part of a photo whose map lies above the pixel threshold of its class. Lengths are in pixels of the photo.
 * @typedef {object} Region
 * @property {[number, number, number, number]} box x0, y0, x1, y1
 * @property {number} area
 * @property {number} peak highest value of the map
 * @property {number} mean
 * @property {[number, number][]} outline corners, clockwise
 */

/** An anomaly map. @typedef {{values: Float32Array, width: number, height: number}} AnomalyMap */

/**
 * Numbers of an inspected photo, as they can be kept.
 * @typedef {object} Row
 * @property {string} id unique, also over reloads
 * @property {number} arrived order of arrival, also over visits
 * @property {string} name of the photo
 * @property {string | null} product class whose threshold counts
 * @property {Verdict} verdict
 * @property {number} score
 * @property {number} threshold that the verdict rests on
 * @property {number} middle the model's own threshold of the product
 * @property {Label} label
 * @property {'webgpu' | 'wasm'} device
 * @property {number} time of the inspection, milliseconds since 1970
 * @property {number} width of the photo, upright
 * @property {number} height
 * @property {boolean} unknown whether the photo is unlike anything that the model knows
 * @property {Region[]} [regions] absent if the model has no pixel threshold
 * @property {Blob | null} thumbnail the photo, small
 * @property {Blob | null} heat its heatmap, small, with transparency
 * @property {[number, number, number, number]} region inspected part: x0, y0, x1, y1 in pixels of the photo
 * @property {File} [file] the photo; absent in restored rows whose photo was not kept
 */

/**
 * An inspected photo on the page, from `gallery.results()`. `map` and `picture` refuse if the photo was not kept.
 * @typedef {Row & {
 *   whole: boolean,
 *   map: () => Promise<AnomalyMap>,
 *   picture: (mode: 'heatmap' | 'overlay') => Promise<Blob>,
 * }} Result
 */

/**
 * What a photo was judged by, and what identifies it.
 * @typedef {object} Judged
 * @property {string} model its name
 * @property {string} hash beginning of the SHA-256 of its manifest
 * @property {string | null} program version of the program that wrote the site
 * @property {string} [photo] SHA-256 of the photo's file
 */

/**
 * @typedef {object} Progress
 * @property {'download' | 'prepare' | 'encode'} phase
 * @property {number} loaded bytes, or photos
 * @property {number} total bytes, or photos
 */

/**
 * Request of the page to the worker.
 * @typedef {{kind: 'open', id: number, base: string, index: Index, model: ModelEntry, device: DeviceChoice, plain: boolean,
 *   tuning: string | null, times: Record<string, Times>}
 *   | {kind: 'make', id: number, base: string, index: Index, model: EncoderEntry, device: DeviceChoice, tuning: string | null,
 *   name: string, photos: GoodPhoto[]}
 *   | {kind: 'detect', id: number, name: string, bytes: ArrayBuffer, pixels?: Source['pixels'], class: string | null}
 *   | {kind: 'colours', id: number, map: Float32Array, class: string | null}
 *   | {kind: 'regions', id: number, map: AnomalyMap, region: [number, number, number, number], class: string | null}
 *   | {kind: 'profile', id: number}
 *   | {kind: 'kernels', id: number}} Request
 */

/**
 * Message of the worker, after a first one of the kind `started`. The name of a refusal is `DeviceError` if another device may succeed,
 * `NetworkError` if another try may, and `Crash` if the worker cannot go on.
 * @typedef {{kind: 'progress', progress: Progress}
 *   | {kind: 'answer', id: number, value: any}
 *   | {kind: 'refusal', id: number, name: string, message: string}} Message
 */

export {};
