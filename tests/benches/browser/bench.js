// Runs in the browser, in a copy of the site: our detector and onnxruntime-web in one page, in turn.

const url = (path) => new URL(path, document.baseURI).href;
const bytes = async (path) => new Uint8Array(await (await fetch(url(path))).arrayBuffer());

let module, ours, peer, photo, patches, detection, outputs;

/** Loads both, one execution provider each. */
globalThis.start = async (device, shape) => {
  photo = await bytes('photo.jpg');
  const { modules, models: [model] } = await (await fetch(url('models.json'))).json();
  const { moduleFor } = await import(url('modules.js'));
  const half = moduleFor(device, modules);
  const { default: initialise, Detector, openDevice } = await import(url(half.glue));
  module = await initialise();
  ours = new Detector(await bytes(model.manifest));
  ours.useDevice(await openDevice());
  do {
    for (const { name } of ours.files()) ours.add(name, await bytes(model.files[name]));
  } while (!(await ours.start()));

  const ort = await import(url(`ort/ort.${device}.bundle.min.mjs`));
  ort.env.wasm.wasmPaths = url('ort/');
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = 'error';
  peer = await ort.InferenceSession.create(await bytes('peer.onnx'), { executionProviders: [device] });
  patches = new ort.Tensor('float32', new Float32Array((await bytes('patches.f32')).buffer), shape);
};

/** Milliseconds of a photo here and there. Ours are with preprocessing and map, the peer's only the network. */
globalThis.round = async () => {
  detection = await ours.detect('photo.jpg', photo);
  const began = performance.now();
  outputs = await peer.run({ patches });
  const distances = Object.values(outputs).map(({ data }) => data);
  const took = performance.now() - began;
  if (distances.some((values) => !values.every(Number.isFinite))) throw new Error('the peer computed no numbers');
  return [detection.timings.detect, took];
};

/** What both found in the last round, and how much memory our module grew to, in bytes. */
globalThis.found = () => ({
  memory: module.memory.buffer.byteLength,
  map: [...detection.map],
  distances: Object.keys(outputs).sort().map((name) => [...outputs[name].data]),
});
