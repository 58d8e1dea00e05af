//! Work that goes on beside its owner's: one piece at a time, on a thread of its own.

use std::panic::resume_unwind;
use std::thread::{Builder, JoinHandle};

use anyhow::{Context, Result};

/// At most one piece of work under way. Dropped, it waits for it.
#[derive(Default)]
pub struct BackgroundJob {
    under_way: Option<JoinHandle<Result<()>>>,
}

impl BackgroundJob {
    /// Waits for the work before, and begins this.
    ///
    /// # Errors
    /// What the work before failed with; then this one is not begun.
    pub fn begin(&mut self, work: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
        self.wait()?;
        self.under_way = Some(Builder::new().spawn(work).context("the system gives no thread")?);
        Ok(())
    }

    /// Whether work is under way.
    pub fn is_busy(&self) -> bool {
        self.under_way.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Waits until the work is done.
    ///
    /// # Errors
    /// What it failed with, once.
    ///
    /// # Panics
    /// If it did.
    pub fn wait(&mut self) -> Result<()> {
        match self.under_way.take() {
            Some(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            None => Ok(()),
        }
    }
}

impl Drop for BackgroundJob {
    fn drop(&mut self) {
        if let Some(thread) = self.under_way.take() {
            // Whoever wants to know how it ended waits for it.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    use anyhow::bail;

    use super::*;

    #[test]
    fn work_goes_on_beside_and_its_failure_is_heard_once_and_before_the_next() {
        let mut background = BackgroundJob::default();
        let (go_on, told) = mpsc::channel();
        background
            .begin(move || {
                told.recv()?;
                bail!("the disk is full")
            })
            .unwrap();
        assert!(background.is_busy(), "nobody waited for it");
        go_on.send(()).unwrap();
        let begun = Arc::new(AtomicBool::new(false));
        let next = |begun: Arc<AtomicBool>| {
            move || {
                begun.store(true, Ordering::SeqCst);
                Ok(())
            }
        };
        let error = background.begin(next(begun.clone())).unwrap_err();
        assert_eq!(error.to_string(), "the disk is full");
        assert!(!begun.load(Ordering::SeqCst), "what follows a failure is not begun");
        background.begin(next(begun.clone())).unwrap();
        background.wait().unwrap();
        assert!(begun.load(Ordering::SeqCst) && !background.is_busy());
    }

    #[test]
    fn whoever_drops_it_waits_for_the_work() {
        let done = Arc::new(AtomicBool::new(false));
        let mut background = BackgroundJob::default();
        let slow = done.clone();
        background
            .begin(move || {
                std::thread::sleep(Duration::from_millis(50));
                slow.store(true, Ordering::SeqCst);
                Ok(())
            })
            .unwrap();
        drop(background);
        assert!(done.load(Ordering::SeqCst));
    }
}
