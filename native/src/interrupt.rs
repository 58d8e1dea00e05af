//! Ctrl-C: the first stops cleanly at the next safe point, the second at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};

/// Whether the user has asked the program to stop.
#[derive(Clone, Debug)]
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
                std::process::exit(130);
            }
            eprintln!("\nstopping: {promise} (Ctrl-C again stops at once)");
        })
        .context("Ctrl-C cannot be listened for")?;
        Ok(Self(asked))
    }

    /// Whether Ctrl-C was pressed.
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
