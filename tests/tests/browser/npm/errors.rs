//! What goes wrong is one sentence.

use std::fs;
use std::path::Path;
use std::thread;

use dinomaly::site::serve::{DEFAULT_HOST, Server};
use dinomaly_tests::page::chrome::{Chrome, Page};
use dinomaly_tests::page::host::{Habit, Host};
use dinomaly_tests::page::site::{Site, before, copy};
use futures_channel::oneshot;

use super::bare;
use crate::faults::{DISGUISE, LOSES_GPU};
use crate::turn;

/// Loads a model in the page, under a name.
fn load(page: &Page, model: &str, options: &str) -> String {
    let said = page.eval(&format!(
        "(async () => {{
            const {{ Detector }} = await import('./dinomaly/dinomaly.js');
            try {{
                window.detector = await Detector.load('{model}', {{ {options} }});
                return 'loaded';
            }} catch (error) {{
                return `${{error.name}}: ${{error.message}}`;
            }}
        }})()"
    ));
    said.as_str().unwrap().to_owned()
}

/// Copies of the model, one thing of each altered.
fn altered(folder: &Path) {
    let alter = |name: &str, alter: &dyn Fn(String) -> String| {
        copy(&folder.join("model"), &folder.join(name));
        let manifest = folder.join(name).join("manifest.json");
        fs::write(&manifest, alter(fs::read_to_string(&manifest).unwrap())).unwrap();
    };
    alter("newer", &|text| text.replace("\"format_version\": 1", "\"format_version\": 3"));
    alter("no-json", &|_| "<!doctype html>".into());
    copy(&folder.join("model"), &folder.join("damaged"));
    alter("no-file", &|text| text.replacen("\"files\": [", "\"files\": [null,", 1));
    let config = folder.join("damaged/config.json");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(config, text.replacen('4', "5", 1)).unwrap();
}

#[test]
fn what_goes_wrong_is_one_sentence() {
    let _turn = turn();
    let folder = bare();
    altered(folder.path());
    let host = Host::serve(folder.path());
    let chrome = Chrome::launch();
    let page = chrome.open(&format!("{}/", host.url));
    let url = &host.url;
    for (model, options, expected) in [
        ("nothing", "", format!("Error: no model is at {url}/nothing/: it has neither manifest.json nor models.json: give the address of a model's folder or of a site")),
        ("no-json/", "", format!("Error: no model is at {url}/no-json/: what the server answers for manifest.json is not JSON: check the address")),
        ("newer/", "", "format version 3 is not known, this program reads versions 1 to 2: update the program or publish the model again".into()),
        ("no-file/", "", "Error: model file manifest.json: is not valid (invalid type: null, ".into()),
        ("damaged/", "", "is altered or damaged, fetch it again".into()),
        ("http://[", "", "Error: http://[ is no address of a model".into()),
        ("model/", "device: 'tpu'", "Error: device tpu is not known: it is auto, gpu or cpu".into()),
        ("model/", "signal: AbortSignal.abort()", "AbortError: ".into()),
        ("model/", "signal: AbortSignal.timeout(1)", "TimeoutError: ".into()),
    ] {
        let said = load(&page, model, options);
        assert!(said.contains(&expected) && !said.contains('\n'), "{model} {options}: {said}");
        println!("{said}");
    }
    assert_eq!(load(&page, "model/manifest.json", "device: 'cpu'"), "loaded");
    let said = page.eval(
        "(async () => {
            const { Detector } = await import('./dinomaly/dinomaly.js');
            const said = (promise) => promise.then(() => 'done', (error) => `${error.name}: ${error.message}`);
            const pixels = new ImageData(64, 64);
            const stop = new AbortController();
            const many = [0, 1, 2, 3].map(() => said(detector.detect(pixels, { signal: stop.signal })));
            stop.abort();
            const after = await said(detector.detect(pixels));
            const refused = [
                detector.detect(new File([Uint8Array.from([255, 216, 255, 0])], 'cut.jpg')), detector.detect(new Blob(['Dear diary']), { name: 'diary' }),
                detector.detect(pixels, { class: 'spoon' }), detector.detect(5), detector.detect(new Image()), detector.detect(new OffscreenCanvas(0, 5)),
            ];
            const sentences = await Promise.all([...refused.map(said), ...many]);
            const late = said(detector.detect(pixels));
            detector.close();
            return [after, ...sentences, await late, await said(detector.detect(pixels))];
        })()",
    );
    let expected = [
        "done",
        "Error: photo cut.jpg: ",
        "Error: photo diary is no photo: PNG, JPEG, WebP, TIFF and BMP are read",
        "Error: class spoon is not known to this model: it knows ",
        "Error: photo (unnamed): it is no Blob, ImageData, ImageBitmap, image, video or canvas",
        "Error: photo (unnamed): the picture of the <img> cannot be loaded or decoded",
        "Error: photo (unnamed): it has no pixels",
        "AbortError: ",
        "AbortError: ",
        "AbortError: ",
        "AbortError: ",
        "Closed: the detector was closed",
        "Closed: the detector was closed",
    ];
    let said: Vec<&str> = said.as_array().unwrap().iter().map(|sentence| sentence.as_str().unwrap()).collect();
    assert_eq!(said.len(), expected.len(), "{said:?}");
    for (said, expected) in said.iter().zip(expected) {
        assert!(said.starts_with(expected) && !said.contains('\n'), "{said}, expected {expected}");
    }
}

/// A signal ends every wait: for a picture that never loads, and for the last step of loading, after which no worker is left.
const ABORTED: &str = "(async () => {
    const { Detector } = await import('./dinomaly/dinomaly.js');
    const name = (promise) => promise.then(() => 'done', (error) => error.name);
    const detector = await Detector.load('model/', { device: 'cpu' });
    const stuck = Object.assign(new Image(), { src: 'stuck.png' });
    const looked = await name(detector.detect(stuck, { signal: AbortSignal.timeout(50) }));
    detector.close();
    const stop = new AbortController();
    const workers = new Set();
    window.Worker = class extends Worker {
        constructor(...given) {
            super(...given);
            workers.add(this);
            this.addEventListener('message', ({ data }) => data.kind === 'answer' && setTimeout(() => stop.abort()));
        }
        terminate() {
            workers.delete(this);
            super.terminate();
        }
    };
    const loaded = await name(Detector.load('model/', { device: 'cpu', signal: stop.signal }));
    return [looked, loaded, workers.size];
})()";

#[test]
fn a_signal_ends_every_wait() {
    let _turn = turn();
    let folder = bare();
    let host = Host::serve(folder.path());
    host.take_up("stuck.png", Habit::Silent);
    let chrome = Chrome::launch();
    let page = chrome.open(&format!("{}/", host.url));
    assert_eq!(page.eval(ABORTED), serde_json::json!(["TimeoutError", "AbortError", 0]));
}

/// Models of another origin: refused, until its server lets this page read them.
#[test]
fn models_of_another_origin_need_its_permission() {
    let _turn = turn();
    let folder = bare();
    let host = Host::serve(folder.path());
    let here = host.url.trim_end_matches("/site");
    let models = Site::unaltered();
    let chrome = Chrome::launch();
    let page = chrome.open(&format!("{}/", host.url));
    let said = load(&page, &models.url, "device: 'cpu'");
    let [expected, advice] =
        [format!("cannot be read from {here}: "), format!("`dinomaly serve --allow-origin {here}`")];
    assert!(said.contains(&expected) && said.contains(&advice), "{said}");
    println!("{said}");

    let origin = here.parse().unwrap();
    let server = Server::bind_at(&models.folder(), None, DEFAULT_HOST, 0, &[origin]).unwrap();
    let url = server.url();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = thread::spawn(move || server.run_until(async { stopped.await.unwrap_or_default() }));
    assert_eq!(load(&page, &url, "device: 'cpu', model: 'nuts'"), "loaded");
    assert_eq!(page.eval("detector.description.name"), "nuts");
    let said = load(&page, &url, "model: 'bolts'");
    assert!(said.ends_with("has no model bolts: it has screws, nuts, screws in int8"), "{said}");
    stop.send(()).unwrap();
    serving.join().unwrap();
}

/// A GPU that is lost between two photos is opened again; lost for good, it gives way to the processor.
#[test]
fn a_lost_gpu_gives_way_to_the_processor() {
    let _turn = turn();
    let folder = bare();
    let lines = format!("{DISGUISE}{LOSES_GPU}");
    before(&folder.path().join("dinomaly/worker.js"), &lines);
    let host = Host::serve(folder.path());
    let chrome = Chrome::launch();
    let page = chrome.open(&format!("{}/", host.url));
    assert_eq!(load(&page, "model/", ""), "loaded");
    assert_eq!(page.eval("detector.device"), "gpu");
    page.eval("(() => { window.lose = new BroadcastChannel('lose'); lose.onmessage = () => setTimeout(() => lose.postMessage('lose'), 0); })()");
    page.eval("lose.postMessage('lose')");
    let device = page.eval("detector.detect(new ImageData(64, 64)).then((result) => result.device)");
    assert_eq!(device, "cpu");
    let reason = page.eval("detector.description.device.fallback");
    assert!(["it failed repeatedly", "the GPU was lost"].iter().any(|known| reason == *known), "{reason}");
}
