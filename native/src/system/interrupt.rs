//! Ctrl-C: the first one stops at the next safe point, the second one at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};

/// Exit status after Ctrl-C, as shells have it.
pub const STATUS: u8 = 128 + 2;

/// The error of a command that Ctrl-C stopped. The sentence says what is kept.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Stopped(pub String);

impl Stopped {
    /// A training that stopped after `iterations`, with a checkpoint of the last.
    pub fn after(iterations: usize) -> Self {
        Self(match iterations {
            0 => "stopped before the first iteration: nothing is kept, the same command starts over".into(),
            _ => format!("stopped after iteration {iterations}; the same command resumes"),
        })
    }
}

/// Whether the work was asked to stop; by default it was not.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Starts to listen for Ctrl-C and SIGTERM. `promise` tells the user what happens until the program ends.
    ///
    /// # Errors
    /// If the handler cannot be installed.
    pub fn listen(promise: &'static str) -> Result<Self> {
        static ASKED: OnceLock<Arc<AtomicBool>> = OnceLock::new();
        if let Some(asked) = ASKED.get() {
            return Ok(Self(asked.clone()));
        }
        let asked = ASKED.get_or_init(Arc::default).clone();
        let flag = asked.clone();
        ctrlc::set_handler(move || {
            if flag.swap(true, Ordering::SeqCst) {
                std::process::exit(STATUS.into());
            }
            eprintln!("\nstopping: {promise} (Ctrl-C again stops at once)");
        })
        .context("the handler of Ctrl-C cannot be installed")?;
        Ok(Self(asked))
    }

    /// Asks the work to stop, from any thread.
    pub fn ask(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether Ctrl-C was pressed, or [`Interrupt::ask`] called.
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_says_what_is_kept() {
        assert!(Stopped::after(0).to_string().contains("nothing is kept"));
        let interrupt = Interrupt::default();
        assert!(!interrupt.asked());
        interrupt.clone().ask();
        assert!(interrupt.asked());
        assert!(Stopped::after(7).to_string().contains("after iteration 7; the same command resumes"));
    }
}
