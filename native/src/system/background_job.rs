//! Work on a background thread, one job at a time.

use std::panic::resume_unwind;
use std::thread::{Builder, JoinHandle};

use anyhow::{Context, Result};

/// At most one running job. Dropping waits for it.
#[derive(Default)]
pub struct BackgroundJob {
    under_way: Option<JoinHandle<Result<()>>>,
}

impl BackgroundJob {
    /// Waits for the previous job, and starts this one.
    ///
    /// # Errors
    /// The error of the previous job; this one is not started then.
    pub fn begin(&mut self, work: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
        self.wait()?;
        self.under_way = Some(Builder::new().spawn(work).context("the system gives no thread")?);
        Ok(())
    }

    /// Whether a job is running.
    pub fn is_busy(&self) -> bool {
        self.under_way.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Waits for the job to end.
    ///
    /// # Errors
    /// The error of the job, once.
    ///
    /// # Panics
    /// If the job did.
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
            // Its error is lost: an owner that needs it calls `wait`.
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
    fn a_failure_is_reported_once_and_stops_the_next_job() {
        let mut background = BackgroundJob::default();
        let (go_on, told) = mpsc::channel();
        background
            .begin(move || {
                told.recv()?;
                bail!("the disk is full")
            })
            .unwrap();
        assert!(background.is_busy(), "it runs in the background");
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
        assert!(!begun.load(Ordering::SeqCst), "no job starts after a failure");
        background.begin(next(begun.clone())).unwrap();
        background.wait().unwrap();
        assert!(begun.load(Ordering::SeqCst) && !background.is_busy());
    }

    #[test]
    fn dropping_waits_for_the_job() {
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
