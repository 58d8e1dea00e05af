//! What the tests do in a browser other than Chromium, by whatever protocol it is driven.

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::chrome::Found;

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// A browser with a profile of its own and one page.
pub trait Engine {
    /// Goes to a page.
    fn open(&self, url: &str);

    /// Loads the page again.
    fn reload(&self);

    /// The JSON text that a JavaScript expression, a promise of it, comes to; or why there is no page to ask, as in the middle of a reload.
    fn evaluate(&self, expression: &str) -> Result<String, String>;

    /// Chooses files for an input, as its dialog does.
    fn choose_files(&self, selector: &str, paths: &[PathBuf]);

    /// The value of a JavaScript expression, awaited if it is a promise.
    fn eval(&self, expression: &str) -> Value {
        self.try_eval(expression).unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    /// [`Engine::eval`], or why it failed.
    ///
    /// # Errors
    /// What the browser says.
    fn try_eval(&self, expression: &str) -> Result<Value, String> {
        let text = self.evaluate(&format!("(async () => JSON.stringify((await ({expression})) ?? null))()"))?;
        serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))
    }

    /// Waits until an expression is true, also over reloads.
    fn wait_for(&self, expression: &str) {
        let begun = Instant::now();
        while !self.try_eval(expression).is_ok_and(|value| value == Value::Bool(true)) {
            assert!(begun.elapsed() < PATIENCE, "waited in vain for {expression}; the page says {}", self.text("main"));
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until a model is ready.
    fn wait_for_model(&self) {
        self.wait_for("['ready', 'failed'].includes(document.documentElement?.dataset.state)");
        assert_eq!(self.eval("document.documentElement.dataset.state"), "ready", "{}", self.text(".panel"));
    }

    /// Waits until the page is kept for the next visit.
    fn wait_until_kept(&self) {
        self.wait_for("navigator.serviceWorker.getRegistration().then((kept) => kept?.active?.state === 'activated')");
    }

    /// Visible text below an element.
    fn text(&self, selector: &str) -> String {
        let text = self.eval(&format!("document.querySelector({selector:?})?.innerText ?? ''"));
        text.as_str().unwrap().to_owned()
    }

    /// Waits until so many photos were looked at or refused since the page was opened; takes the results.
    fn results(&self, photos: usize) -> Vec<Found> {
        self.wait_for(&format!(
            "results.length + document.querySelectorAll('.card[data-state=failed]').length >= {photos}"
        ));
        serde_json::from_value(self.eval("results.splice(0)")).unwrap()
    }
}
