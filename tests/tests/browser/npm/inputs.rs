//! A photo is the same photo in every form, on the processor and on the GPU.

use dinomaly_tests::page::chrome::Chrome;
use dinomaly_tests::page::host::Host;
use dinomaly_tests::page::site::{MODELS, detect, detector};
use dinomaly_tests::{fixtures, max_difference};
use serde_json::Value;

use super::bare;
use crate::{TOLERANCE, read, turn};

/// Makes every form of a photo and inspects it: name → map, score, size.
const FORMS: &str = "(async (device) => {
    const { Detector } = await import('./dinomaly/dinomaly.js');
    const detector = await Detector.load(new URL('model/', document.baseURI), { device });
    const file = await (await fetch('photo.png')).blob();
    const bitmap = await createImageBitmap(file);
    const drawn = (canvas) => (Object.assign(canvas, { width: bitmap.width, height: bitmap.height }), canvas.getContext('2d').drawImage(bitmap, 0, 0), canvas);
    const canvas = drawn(document.createElement('canvas'));
    const image = Object.assign(new Image(), { src: 'photo.png' });
    const forms = {
        file, bitmap, canvas, image,
        offscreen: drawn(new OffscreenCanvas(1, 1)),
        pixels: canvas.getContext('2d').getImageData(0, 0, bitmap.width, bitmap.height),
    };
    const found = await Promise.all(Object.entries(forms).map(async ([name, form]) => [name, await detector.detect(form)]));
    const { data } = forms.pixels;
    const device_ = detector.device;
    detector[Symbol.dispose]?.();
    detector.close();
    return {
        device: device_, untouched: data.length === 4 * bitmap.width * bitmap.height,
        found: found.map(([name, { score, width, height, map, mapWidth, mapHeight, verdict, threshold }]) =>
            ({ name, score, width, height, map: [...map], size: mapWidth * mapHeight, verdict, threshold })),
    };
})";

#[test]
fn every_form_of_a_photo_gets_the_native_detectors_map() {
    let _turn = turn();
    let folder = bare();
    std::fs::copy(fixtures("photos/rgb.png"), folder.path().join("photo.png")).unwrap();
    let photo = read(&fixtures("photos/rgb.png"));
    let expected = detect(&detector(MODELS[0]), &photo);
    let host = Host::serve(folder.path());
    let chrome = Chrome::launch();
    let page = chrome.open(&format!("{}/", host.url));
    for device in ["cpu", "gpu"] {
        let said = page.eval(&format!("{FORMS}('{device}')"));
        assert_eq!((&said["device"], &said["untouched"]), (&Value::from(device), &Value::from(true)));
        let found = said["found"].as_array().unwrap();
        assert_eq!(found.len(), 6);
        for form in found {
            let name = &form["name"];
            let map: Vec<f32> = form["map"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect();
            let difference = max_difference(&map, &expected.map.values);
            assert!(difference <= TOLERANCE, "{device}, {name}: map differs by {difference:e}");
            let score = form["score"].as_f64().unwrap() as f32;
            assert!(
                (score - expected.score).abs() <= TOLERANCE,
                "{device}, {name}: {score}, expected {}",
                expected.score
            );
            assert_eq!((&form["width"], &form["height"]), (&Value::from(photo.width), &Value::from(photo.height)));
            let above = score > form["threshold"].as_f64().unwrap() as f32;
            assert_eq!(form["verdict"], if above { "defective" } else { "good" }, "{device}, {name}");
            println!("{device}, {name}: map differs by {difference:e}");
        }
    }
}

/// What happens to a photo after the call, a picture for dense screens, and a page's own worker: sizes and scores.
const USES: &str = "(async () => {
    const { Detector } = await import('./dinomaly/dinomaly.js');
    const detector = await Detector.load('model/', { device: 'cpu' });
    const told = ({ width, height, score }) => [width, height, score];
    const bitmap = await createImageBitmap(await (await fetch('photo.png')).blob());
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
    canvas.getContext('2d').drawImage(bitmap, 0, 0);
    const pixels = canvas.getContext('2d').getImageData(0, 0, bitmap.width, bitmap.height);
    const looked = [0, 1, 2, 3].map(() => detector.detect(pixels));
    pixels.data.fill(0);
    const reused = (await Promise.all(looked)).map(told);
    const image = Object.assign(new Image(), { srcset: 'photo.png 2x' });
    const dense = told(await detector.detect(image));
    const waiting = [0, 1, 2].map(() => detector.detect(image).then(told, (error) => error.message));
    await image.decode();
    image.srcset = 'other.png 2x';
    await image.decode();
    const changed = (await Promise.all(waiting))[2];
    detector.close();
    const script = `
        const { Detector } = await import('${new URL('dinomaly/dinomaly.js', document.baseURI)}');
        const detector = await Detector.load('${new URL('model/', document.baseURI)}', { device: 'cpu' });
        self.onmessage = async ({ data }) => {
            const canvas = new OffscreenCanvas(data.width, data.height);
            canvas.getContext('2d').drawImage(data, 0, 0);
            const found = await Promise.all([data, canvas].map((photo) => detector.detect(photo)));
            postMessage(found.map(({ width, height, score }) => [width, height, score]));
        };
        postMessage('ready');`;
    const worker = new Worker(URL.createObjectURL(new Blob([script], { type: 'text/javascript' })), { type: 'module' });
    const heard = () => new Promise((resolve) => (worker.onmessage = ({ data }) => resolve(data)));
    await heard();
    worker.postMessage(bitmap);
    return { found: [...reused, dense, ...(await heard())], changed };
})()";

#[test]
fn a_photo_is_inspected_as_it_was_handed_over() {
    let _turn = turn();
    let folder = bare();
    std::fs::copy(fixtures("photos/rgb.png"), folder.path().join("photo.png")).unwrap();
    std::fs::copy(fixtures("photos/grey.png"), folder.path().join("other.png")).unwrap();
    let photo = read(&fixtures("photos/rgb.png"));
    let expected = detect(&detector(MODELS[0]), &photo).score;
    let host = Host::serve(folder.path());
    let chrome = Chrome::launch();
    let page = chrome.open(&format!("{}/", host.url));
    let said = page.eval(USES);
    let found = said["found"].as_array().unwrap();
    assert_eq!(found.len(), 7);
    for (i, form) in found.iter().enumerate() {
        assert_eq!((&form[0], &form[1]), (&Value::from(photo.width), &Value::from(photo.height)), "{i}");
        let score = form[2].as_f64().unwrap() as f32;
        assert!((score - expected).abs() <= TOLERANCE, "{i}: {score}, expected {expected}");
    }
    let changed = said["changed"].as_str().unwrap();
    assert!(changed.starts_with("photo (unnamed): the <img> has another picture now: "), "{changed}");
}

/// A video's picture is not exactly its canvas's, as it is packed.
#[test]
fn a_frame_of_a_video_is_inspected() {
    let _turn = turn();
    let folder = bare();
    let host = Host::serve(folder.path());
    let chrome = Chrome::launch();
    let page = chrome.open(&format!("{}/", host.url));
    let said = page.eval(
        "(async () => {
            const { Detector } = await import('./dinomaly/dinomaly.js');
            const detector = await Detector.load('model/', { device: 'cpu' });
            const video = document.createElement('video');
            const early = await detector.detect(video).catch((error) => error.message);
            const canvas = Object.assign(document.createElement('canvas'), { width: 128, height: 96 });
            const context = canvas.getContext('2d');
            context.fillStyle = 'teal';
            context.fillRect(0, 0, 128, 96);
            context.fillStyle = 'orange';
            context.fillRect(30, 20, 60, 50);
            video.srcObject = canvas.captureStream(10);
            video.muted = true;
            await video.play();
            const [frame, picture] = [await detector.detect(video), await detector.detect(canvas)];
            detector.close();
            return { early, size: [frame.width, frame.height], difference: Math.abs(frame.score - picture.score), score: picture.score };
        })()",
    );
    assert_eq!(said["early"], "photo (unnamed): the video has no picture yet: wait for its event \"loadeddata\"");
    assert_eq!(said["size"], serde_json::json!([128, 96]));
    assert!(said["difference"].as_f64().unwrap() < 0.02 * said["score"].as_f64().unwrap(), "{said}");
}
