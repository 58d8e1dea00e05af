//! Work on another thread, without Python's lock. The thread that called hears it, calls functions of Python, and looks for Ctrl-C.

use std::process;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::Result;
use dinomaly::system::interrupt::Interrupt;
use dinomaly::system::listener::{Listener, Said, Step};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::error::{Error, raised};

/// Time between two looks for Ctrl-C.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What is said before the work waits for the one who hears it.
const UNHEARD: usize = 16;

enum Event<T> {
    Said(Said),
    Done(Result<T>),
}

/// The end that works.
pub struct Worker<T> {
    events: SyncSender<Event<T>>,
    interrupt: Interrupt,
}

/// The end that called.
pub struct Caller<T> {
    events: Receiver<Event<T>>,
    interrupt: Interrupt,
}

/// Two ends of work that is still to be done.
pub fn pair<T>() -> (Worker<T>, Caller<T>) {
    let ((sender, receiver), interrupt) = (sync_channel(UNHEARD), Interrupt::default());
    (Worker { events: sender, interrupt: interrupt.clone() }, Caller { events: receiver, interrupt })
}

impl<T: Send + 'static> Worker<T> {
    /// Does the work, which may look whether it is to stop, and sends what comes of it.
    pub fn run(self, work: impl FnOnce(&Interrupt) -> Result<T>) {
        let ear = self.events.clone();
        // Who does not listen any more does not stop the work.
        let hear = move |said| drop(ear.send(Event::Said(said)));
        let outcome = Listener::new(hear, self.interrupt.clone()).during(|| work(&self.interrupt));
        drop(self.events.send(Event::Done(outcome)));
    }
}

impl<T: Send> Caller<T> {
    /// Waits for what comes of the work. Ctrl-C, or an exception of `progress`, asks it to stop and is raised when it has.
    pub fn wait(mut self, py: Python<'_>, progress: Option<&Bound<'_, PyAny>>) -> PyResult<T> {
        let mut exception = None;
        loop {
            let events = &mut self.events;
            let heard = match py.detach(move || events.recv_timeout(LOOK_EVERY)) {
                Ok(Event::Done(outcome)) => return exception.map_or_else(|| outcome.map_err(raised), Err),
                Ok(Event::Said(said)) if exception.is_none() => tell(py, said, progress),
                Ok(Event::Said(_)) | Err(RecvTimeoutError::Timeout) => Ok(()),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::new_err("dinomaly failed by a fault of its own, which standard error names"));
                }
            };
            if let Err(error) = heard.and_then(|()| py.check_signals()) {
                self.interrupt.ask();
                exception.get_or_insert(error);
            }
        }
    }
}

/// How far long work is.
#[pyclass(frozen, get_all, module = "dinomaly")]
pub struct Progress {
    /// The work, such as `training`.
    what: &'static str,
    /// Finished units.
    done: u64,
    /// All units.
    total: u64,
    /// What is counted, such as `iterations`.
    unit: &'static str,
    /// More about it, such as the loss; may be empty.
    message: String,
}

#[pymethods]
impl Progress {
    fn __repr__(&self) -> String {
        let Self { what, done, total, unit, message } = self;
        let separator = if message.is_empty() { "" } else { " · " };
        format!("<Progress: {what} {done}/{total} {unit}{separator}{message}>")
    }
}

/// Passes on what the library says: lines to the logger `dinomaly`.
fn tell(py: Python<'_>, said: Said, progress: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    let log = |level: &str, line: &str| -> PyResult<()> {
        let logger = py.import("logging")?.call_method1("getLogger", ("dinomaly",))?;
        logger.call_method1(level, ("%s", line))?;
        Ok(())
    };
    match said {
        Said::Line(line) => log("info", &line),
        Said::Warning(line) => log("warning", line.strip_prefix("dinomaly: ").unwrap_or(&line)),
        Said::Progress(Step { what, done, total, unit, message }) => {
            if let Some(progress) = progress {
                progress.call1((Progress { what, done, total, unit, message },))?;
            }
            Ok(())
        }
    }
}

/// Checks that threads that computed before are still there: a fork takes none of them along.
pub fn check_process() -> PyResult<()> {
    static FIRST: OnceLock<u32> = OnceLock::new();
    if *FIRST.get_or_init(process::id) == process::id() {
        return Ok(());
    }
    Err(PyRuntimeError::new_err(
        "this process was forked from one that used dinomaly, whose threads are not in it: start processes with multiprocessing's method \
         spawn or forkserver",
    ))
}
