//! A model that is replaced in its folder, as after a new training.

use std::fs;

use dinomaly_tests::page::chrome::Chrome;
use dinomaly_tests::page::host::{Habit, Host};
use dinomaly_tests::page::site::{MODELS, model};

use super::bare;
use crate::turn;

/// Loads the model: its name, and how many of its files the package's cache has.
const LOADED: &str = "(async () => {
    const { Detector } = await import('./dinomaly/dinomaly.js');
    const detector = await Detector.load('model/', { device: 'cpu' });
    detector.close();
    const kept = await (await caches.open('dinomaly-files')).keys();
    return [detector.description.name, kept.filter(({ url }) => url.includes('/model/')).length];
})()";

/// The server lets browsers keep files without asking again; the names of most files stay.
#[test]
fn a_returning_visitor_gets_the_new_model_and_keeps_nothing_of_the_old_one() {
    let _turn = turn();
    let folder = bare();
    let host = Host::serve(folder.path());
    host.take_up(".json", Habit::Header("cache-control", "max-age=3600"));
    let chrome = Chrome::launch();
    let page = chrome.open(&format!("{}/", host.url));
    for name in [MODELS[0], MODELS[1]] {
        let new = model(name);
        fs::remove_dir_all(folder.path().join("model")).unwrap();
        dinomaly::model_dir::write(&folder.path().join("model"), &new).unwrap();
        // All but the manifest, which is asked for at each visit.
        let files = new.to_files().unwrap().len() - 1;
        assert_eq!(page.eval(LOADED), serde_json::json!([name, files]));
    }
}
