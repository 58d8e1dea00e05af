import { Detector, type Result } from 'dinomaly';

const input = document.querySelector('input')!;
const output = document.querySelector('output')!;
const canvas = document.querySelector('canvas')!;

// public/model is the folder of a model.
const detector = await Detector.load('model/', {
  onProgress: ({ phase, loaded, total }) => (output.value = `${phase}: ${Math.round((100 * loaded) / total)} %`),
});
output.value = `Choose a photo (computed on the ${detector.device})`;

input.addEventListener('change', async () => {
  const picture = await createImageBitmap(input.files![0]);
  const result: Result = await detector.detect(input.files![0], { signal: AbortSignal.timeout(60_000) });
  [canvas.width, canvas.height] = [picture.width, picture.height];
  canvas.getContext('2d')!.drawImage(picture, 0, 0);
  result.draw(canvas, { opacity: 0.6 });
  output.value = `${result.verdict}: score ${result.score.toFixed(4)}, threshold ${result.threshold.toFixed(4)}`;
});
