//! A real Firefox, driven through WebDriver BiDi, which it speaks without a driver.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::chrome::RESULTS;
use super::engine::Engine;
use super::socket::{Socket, listening};

/// Nothing of the browser's own business.
const PREFERENCES: &str = r#"
user_pref("app.update.enabled", false);
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("toolkit.telemetry.reportingpolicy.firstRun", false);
"#;

/// A browser with a profile of its own and one page.
pub struct Firefox {
    process: Child,
    socket: Socket,
    page: String,
    /// Removed when the browser is gone.
    _profile: TempDir,
}

impl Firefox {
    /// Starts the Firefox that `FIREFOX` names, or that is installed.
    pub fn launch() -> Self {
        let profile = tempfile::tempdir().unwrap();
        fs::write(profile.path().join("user.js"), PREFERENCES).unwrap();
        let mut process = start(profile.path());
        let address = listening(&mut process, "WebDriver BiDi listening on ");
        let socket = Socket::connect(&format!("{address}/session"));
        let mut firefox = Self { process, socket, page: String::new(), _profile: profile };
        firefox.ask("session.new", json!({ "capabilities": {} }));
        let tree = firefox.ask("browsingContext.getTree", json!({}));
        firefox.page = tree["contexts"][0]["context"].as_str().unwrap().to_owned();
        // Before anything of a page runs.
        let kept = format!("() => {{ {RESULTS} }}");
        firefox.ask("script.addPreloadScript", json!({ "functionDeclaration": kept }));
        firefox
    }

    fn evaluation(&self, expression: &str) -> Value {
        json!({ "expression": expression, "target": { "context": self.page }, "awaitPromise": true })
    }

    fn ask(&self, method: &str, params: Value) -> Value {
        self.try_ask(method, params).unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    fn try_ask(&self, method: &str, params: Value) -> Result<Value, Value> {
        self.socket.ask(method, &params, drop)
    }
}

impl Engine for Firefox {
    fn open(&self, url: &str) {
        self.ask("browsingContext.navigate", json!({ "context": self.page, "url": url, "wait": "interactive" }));
    }

    fn reload(&self) {
        self.ask("browsingContext.reload", json!({ "context": self.page, "wait": "interactive" }));
    }

    fn evaluate(&self, expression: &str) -> Result<String, String> {
        let answer = self.try_ask("script.evaluate", self.evaluation(expression)).map_err(|error| error.to_string())?;
        answer["result"]["value"].as_str().map(str::to_owned).ok_or_else(|| answer.to_string())
    }

    fn choose_files(&self, selector: &str, paths: &[PathBuf]) {
        let found = self.ask("script.evaluate", self.evaluation(&format!("document.querySelector({selector:?})")));
        let element = json!({ "sharedId": found["result"]["sharedId"] });
        self.ask("input.setFiles", json!({ "context": self.page, "element": element, "files": paths }));
    }
}

impl Drop for Firefox {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn start(profile: &Path) -> Child {
    let named = std::env::var("FIREFOX").ok();
    let names = named.as_deref().map_or(vec!["firefox-esr", "firefox"], |name| vec![name]);
    let start = |name: &&str| {
        let mut command = Command::new(name);
        command.args(["--headless", "--no-remote", "--remote-debugging-port", "0", "--profile"]).arg(profile);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().ok()
    };
    names
        .iter()
        .find_map(start)
        .expect("Firefox cannot be started: install it (apt install firefox-esr), or name another with FIREFOX")
}
