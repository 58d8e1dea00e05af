//! A program that hears what the library says, in place of the terminal: lines, and how far long work is.

use std::cell::RefCell;
use std::sync::Arc;

use super::interrupt::{Interrupt, Stopped};

/// What the library says.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// What else goes to standard output.
    Line(String),
    /// What else goes to standard error.
    Warning(String),
    /// How far long work is.
    Progress(Step),
}

/// How far long work is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The work, such as `training`.
    pub what: &'static str,
    /// Finished units.
    pub done: u64,
    /// All units.
    pub total: u64,
    /// What is counted, such as `iterations`.
    pub unit: &'static str,
    /// More about it, such as the loss; may be empty.
    pub message: String,
}

/// Who listens.
#[derive(Clone)]
pub struct Listener {
    hear: Arc<dyn Fn(Said) + Send + Sync>,
    interrupt: Interrupt,
}

thread_local! {
    static LISTENER: RefCell<Option<Listener>> = const { RefCell::new(None) };
}

impl Listener {
    /// A listener that may also ask the work to stop where it has safe points.
    pub fn new(hear: impl Fn(Said) + Send + Sync + 'static, interrupt: Interrupt) -> Self {
        Self { hear: Arc::new(hear), interrupt }
    }

    /// Does some work, and hears what it says on this thread.
    pub fn during<T>(self, work: impl FnOnce() -> T) -> T {
        /// Puts the earlier listener back, also if the work panics.
        struct Earlier(Option<Listener>);
        impl Drop for Earlier {
            fn drop(&mut self) {
                LISTENER.set(self.0.take());
            }
        }
        let _earlier = Earlier(LISTENER.replace(Some(self)));
        work()
    }

    /// Who listens on this thread.
    pub(crate) fn present() -> Option<Self> {
        LISTENER.with_borrow(Clone::clone)
    }

    /// Says something.
    pub(crate) fn tell(&self, said: Said) {
        (self.hear)(said);
    }

    /// A safe point of work that keeps nothing when it stops.
    ///
    /// # Errors
    /// [`Stopped`] if the listener of this thread asks for it.
    pub fn check_stopped() -> Result<(), Stopped> {
        match Self::present() {
            Some(listener) if listener.interrupt.asked() => {
                Err(Stopped("stopped before the end: no model was written".into()))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(all(test, feature = "trainer"))]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::system::progress::Progress;

    #[test]
    fn lines_and_progress_are_heard_in_place_of_the_terminal() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (ear, interrupt) = (heard.clone(), Interrupt::default());
        let listener = Listener::new(move |said| ear.lock().unwrap().push(said), interrupt.clone());
        listener.during(|| {
            println!("two\nlines");
            eprintln!("dinomaly: odd");
            let progress = Progress::resumed("training", 3, 9, "iterations");
            progress.advance(2, || "loss 0.5".into());
            assert!(Listener::check_stopped().is_ok());
            interrupt.ask();
            assert!(Listener::check_stopped().is_err());
        });
        assert!(Listener::check_stopped().is_ok(), "nobody listens any more");
        let step = Step { what: "training", done: 5, total: 9, unit: "iterations", message: "loss 0.5".into() };
        let expected = [Said::Line("two\nlines".into()), Said::Warning("dinomaly: odd".into()), Said::Progress(step)];
        assert_eq!(*heard.lock().unwrap(), expected);
    }
}
