//! Ctrl-C: the first stops cleanly at the next safe point, the second at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};

/// Exit status after Ctrl-C, as shells have it.
pub const STATUS: u8 = 128 + 2;

/// Why a command ended before its work was done: the user asked. The sentence says what is kept.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Stopped(pub String);

impl Stopped {
    /// A training that ended after so many iterations, of which the last is in a checkpoint.
    pub fn after(iterations: usize) -> Self {
        Self(match iterations {
            0 => "stopped before the first iteration: nothing is kept, the same command begins anew".into(),
            _ => format!("stopped after iteration {iterations}; the same command goes on from there"),
        })
    }
}

/// Whether somebody has asked long work to stop; by default nobody has.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Begins to listen for Ctrl-C (and SIGTERM). `promise` tells the user what happens now.
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
        .context("Ctrl-C cannot be listened for")?;
        Ok(Self(asked))
    }

    /// Asks, from any thread.
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
        assert!(Stopped::after(7).to_string().contains("after iteration 7; the same command goes on"));
    }
}
