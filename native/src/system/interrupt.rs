//! Ctrl-C: it removes what is half-written. In long work the first one stops at the next safe point, the second one at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result};

use super::atomic::partial;

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

/// What [`Interrupt::listen`] promised, and whether a signal came since.
static LISTENING: Mutex<Option<(&'static str, Interrupt)>> = Mutex::new(None);

/// Has Ctrl-C, SIGTERM and SIGHUP remove what is not in place yet before they end the program. Called at its start, and does
/// nothing the second time.
///
/// # Errors
/// If the handler cannot be installed.
pub fn clean_up_at_signals() -> Result<()> {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    if INSTALLED.set(()).is_err() {
        return Ok(());
    }
    // ctrlc hears a hang-up that nohup ignores: findings/ctrlc-nohup.sh.
    let ignores_hangup = ignores_hangup();
    ctrlc::set_handler(|| {
        if let Some((promise, interrupt)) = &*LISTENING.lock().unwrap_or_else(PoisonError::into_inner)
            && !interrupt.0.swap(true, Ordering::SeqCst)
        {
            eprintln!("\nstopping: {promise} (Ctrl-C again stops at once)");
            return;
        }
        partial::remove_all();
        std::process::exit(STATUS.into());
    })
    .context("the handler of Ctrl-C cannot be installed")?;
    if ignores_hangup {
        ignore_hangup();
    }
    Ok(())
}

/// Whether the program was started to ignore SIGHUP: under `nohup` it goes on when its terminal is gone.
#[cfg(unix)]
#[allow(unsafe_code)]
fn ignores_hangup() -> bool {
    // SAFETY: an action of zeros is valid, and `sigaction` without a new action only writes the present one into it.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGHUP, std::ptr::null(), &raw mut action) == 0 && action.sa_sigaction == libc::SIG_IGN
    }
}

#[cfg(unix)]
#[allow(unsafe_code)]
fn ignore_hangup() {
    // SAFETY: SIG_IGN installs no code.
    unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
}

#[cfg(not(unix))]
fn ignores_hangup() -> bool {
    false
}

#[cfg(not(unix))]
fn ignore_hangup() {}

impl Interrupt {
    /// Starts to listen for Ctrl-C, SIGTERM and SIGHUP. `promise` tells the user what happens until the program ends.
    ///
    /// # Errors
    /// If the handler cannot be installed.
    pub fn listen(promise: &'static str) -> Result<Self> {
        clean_up_at_signals()?;
        let mut listening = LISTENING.lock().unwrap_or_else(PoisonError::into_inner);
        let interrupt = listening.take().map(|(_, interrupt)| interrupt).unwrap_or_default();
        *listening = Some((promise, interrupt.clone()));
        Ok(interrupt)
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
