//! Progress of long work: a bar on a terminal, a line every 15 seconds elsewhere; a program that listens hears every step.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::listener::{Listener, Said, Step};

/// Time between two lines if there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(15);

/// Progress of one task.
pub struct Progress {
    bar: ProgressBar,
    plain: Option<Mutex<Plain>>,
    listener: Option<Listener>,
    what: &'static str,
    unit: &'static str,
}

struct Plain {
    last: Instant,
    begun: Instant,
    first: u64,
}

impl Progress {
    /// Starts a task of `total` units.
    pub fn new(what: &'static str, total: usize, unit: &'static str) -> Self {
        Self::resumed(what, 0, total, unit)
    }

    /// Resumes a task with `done` finished units.
    pub fn resumed(what: &'static str, done: usize, total: usize, unit: &'static str) -> Self {
        let bar = ProgressBar::new(total as u64).with_position(done as u64);
        bar.reset_eta();
        let template = format!("{what} {{bar:30}} {{pos}}/{{len}} {unit} · {{eta}} left{{msg}}");
        bar.set_style(ProgressStyle::with_template(&template).expect("a valid template"));
        let now = Instant::now();
        let plain =
            (!std::io::stderr().is_terminal()).then(|| Mutex::new(Plain { last: now, begun: now, first: done as u64 }));
        let listener = Listener::present();
        let is_heard = listener.is_some();
        Self { bar, plain, listener, what, unit }.shown(!is_heard)
    }

    /// Hides the progress unless `shown`, for all but one of several equal tasks.
    pub fn shown(mut self, shown: bool) -> Self {
        if !shown {
            self.bar.set_draw_target(ProgressDrawTarget::hidden());
            self.plain = None;
        }
        self
    }

    /// Counts finished units. `message` is only called when it is shown.
    pub fn advance(&self, units: usize, message: impl FnOnce() -> String) {
        self.bar.inc(units as u64);
        if let Some(listener) = &self.listener {
            let (done, total) = (self.bar.position(), self.bar.length().unwrap_or_default());
            let step = Step { what: self.what, done, total, unit: self.unit, message: message() };
            return listener.tell(Said::Progress(step));
        }
        let Some(plain) = &self.plain else {
            if self.bar.is_hidden() {
                return;
            }
            let message = message();
            self.bar.set_message(if message.is_empty() { message } else { format!(" · {message}") });
            return;
        };
        let mut plain = plain.lock().expect("no thread panics while it prints");
        let (done, total) = (self.bar.position(), self.bar.length().unwrap_or_default());
        if plain.last.elapsed() >= LINE_EVERY || done == total {
            plain.last = Instant::now();
            let rate = (done - plain.first) as f64 / plain.begun.elapsed().as_secs_f64();
            let left = Duration::from_secs_f64((total.saturating_sub(done)) as f64 / rate.max(1e-9));
            let message = message();
            let separator = if message.is_empty() { "" } else { " · " };
            eprintln!(
                "{} {done}/{total} {} · {} left{separator}{message}",
                self.what,
                self.unit,
                indicatif::HumanDuration(left)
            );
        }
    }

    /// Ends the bar and leaves its last state on the screen.
    pub fn finish(&self) {
        self.bar.abandon();
    }
}
