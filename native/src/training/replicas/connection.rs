//! Connections between replicas: how they are used together, and how they end.
//!
//! In a shared operation devices wait for each other, and a thread that reads from its device waits too. If one device fails, such an
//! operation never ends by itself. Therefore a replica that fails breaks off all connections, which ends the operation everywhere. The
//! values that the others then read are meaningless, and their next meeting tells them. Replicas that finish close their connections
//! after all have left.
//!
//! Two cases are not covered, and the run then hangs until it is killed: a device that hangs without an error, and a panic while the
//! others first connect to it.

use std::cell::Cell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::{Result, bail};

use super::meeting::{Meeting, Member};

/// A replica's connection. Dropping it without [`Connection::close`] breaks off those of the others.
pub struct Connection<C> {
    member: Member,
    all: Arc<All<C>>,
    closed: Cell<bool>,
}

struct All<C> {
    /// The connection of each replica, until it is broken off.
    each: Vec<Mutex<Option<C>>>,
    break_off: fn(C),
}

impl<C> All<C> {
    fn of(&self, rank: usize) -> MutexGuard<'_, Option<C>> {
        // It must be broken off also after a panic.
        self.each[rank].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn break_off(&self, rank: usize) {
        if let Some(connection) = self.of(rank).take() {
            (self.break_off)(connection);
        }
    }
}

impl<C> Connection<C> {
    /// A replica for each of these connections. `break_off` ends a connection and its pending operations, from any thread and
    /// without waiting for the others.
    pub fn of(connections: Vec<C>, break_off: fn(C)) -> (Arc<Meeting>, Vec<Self>) {
        let (meeting, members) = Meeting::of(connections.len());
        let each = connections.into_iter().map(|connection| Mutex::new(Some(connection))).collect();
        let all = Arc::new(All { each, break_off });
        let place = |member| Self { member, all: all.clone(), closed: Cell::new(false) };
        (meeting, members.into_iter().map(place).collect())
    }

    /// The replica.
    pub fn member(&self) -> &Member {
        &self.member
    }

    /// Queues an operation on every replica's device; `queue` returns the reason if it fails. Afterwards either all devices have it, or
    /// none waits for it. Threads wait for each other here, not for their devices.
    ///
    /// # Errors
    /// If queueing fails on one of them, or one of them has left.
    pub fn together(&self, queue: impl FnOnce(&C) -> Option<String>) -> Result<()> {
        self.member.meet(())?;
        let failed = match &*self.all.of(self.member.rank()) {
            Some(connection) => queue(connection),
            None => Some("the connection was broken off".into()),
        };
        let answer = match self.member.meet(failed) {
            Ok(answers) => answers.into_iter().flatten().next(),
            Err(error) => Some(error.to_string()),
        };
        if let Some(answer) = answer {
            // This device may wait for an operation that another one does not have.
            self.all.break_off(self.member.rank());
            bail!("{answer}");
        }
        Ok(())
    }

    /// Leaves without an error and waits until all have left. No operation is pending then.
    pub fn close(&self) {
        self.member.close();
        self.closed.set(true);
    }
}

impl<C> Drop for Connection<C> {
    fn drop(&mut self) {
        if self.closed.get() {
            return self.all.break_off(self.member.rank());
        }
        // First, so that later meetings fail and nothing more is queued.
        self.member.leave();
        (0..self.all.each.len()).for_each(|rank| self.all.break_off(rank));
    }
}

#[cfg(test)]
mod tests {
    use std::panic::resume_unwind;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    /// How often it was broken off.
    type Line = Arc<AtomicUsize>;

    fn connections(count: usize) -> (Vec<Line>, Arc<Meeting>, Vec<Connection<Line>>) {
        let lines: Vec<Line> = (0..count).map(|_| Line::default()).collect();
        let break_off = |line: Line| {
            line.fetch_add(1, Ordering::SeqCst);
        };
        let (meeting, connections) = Connection::of(lines.clone(), break_off);
        (lines, meeting, connections)
    }

    fn broken(lines: &[Line]) -> Vec<usize> {
        lines.iter().map(|line| line.load(Ordering::SeqCst)).collect()
    }

    /// As reading from a device does whose operation waits for another device.
    fn read(line: &Line) {
        let begun = Instant::now();
        while line.load(Ordering::SeqCst) == 0 {
            assert!(begun.elapsed() < Duration::from_secs(20), "it was not broken off");
            thread::yield_now();
        }
    }

    #[test]
    fn whoever_fails_frees_those_who_wait_for_its_device() {
        for panics in [false, true] {
            let (lines, meeting, mut replicas) = connections(3);
            let failing = replicas.remove(1);
            thread::scope(|scope| {
                for replica in replicas {
                    let lines = &lines;
                    scope.spawn(move || {
                        replica.together(|_| None).unwrap();
                        read(&lines[replica.member().rank()]);
                        let error = replica.together(|_| panic!("a device in vain")).unwrap_err();
                        assert!(error.to_string().contains("another replica of this run has ended"), "{error}");
                    });
                }
                let failed = scope.spawn(move || {
                    failing.together(|_| None).unwrap();
                    if panics {
                        resume_unwind(Box::new("a bug"));
                    }
                });
                assert_eq!(failed.join().is_err(), panics);
            });
            assert_eq!((broken(&lines), meeting.left()[0]), (vec![1; 3], 1));
        }
    }

    #[test]
    fn what_only_some_devices_have_is_broken_off_at_once() {
        for panics in [false, true] {
            let (lines, _, replicas) = connections(3);
            let ended = thread::scope(|scope| {
                let begin = |replica: Connection<Line>| {
                    let line = lines[replica.member().rank()].clone();
                    scope.spawn(move || {
                        let outcome = replica.together(|_| match (replica.member().rank(), panics) {
                            (2, false) => Some("no memory".to_owned()),
                            // As a bug's panic, without the message.
                            (2, true) => resume_unwind(Box::new("a bug")),
                            _ => None,
                        });
                        assert_eq!(line.load(Ordering::SeqCst), 1, "before its replica is dropped");
                        outcome.unwrap_err().to_string()
                    })
                };
                let threads: Vec<_> = replicas.into_iter().map(begin).collect();
                threads.into_iter().map(|thread| thread.join().ok()).collect::<Vec<_>>()
            });
            let begins =
                |text: &str| ended[..2].iter().all(|error| error.as_ref().is_some_and(|e| e.starts_with(text)));
            assert!(begins(if panics { "another replica of this run has ended" } else { "no memory" }), "{ended:?}");
            assert_eq!((broken(&lines), ended[2].is_none()), (vec![1; 3], panics));
        }
    }

    #[test]
    fn those_who_are_done_close_when_all_are() {
        let (lines, meeting, replicas) = connections(2);
        thread::scope(|scope| {
            for replica in replicas {
                let (lines, meeting) = (&lines, &meeting);
                scope.spawn(move || {
                    replica.together(|_| None).unwrap();
                    if replica.member().rank() == 1 {
                        while meeting.left() != [0] {
                            thread::yield_now();
                        }
                        assert_eq!(broken(lines), [0, 0], "the first waits for the second");
                    }
                    replica.close();
                    assert_eq!(meeting.left(), [0, 1]);
                });
            }
        });
        assert_eq!(broken(&lines), [1, 1]);
    }

    #[test]
    fn replicas_that_never_began_end_on_one_thread() {
        let (lines, _, replicas) = connections(3);
        drop(replicas);
        assert_eq!(broken(&lines), [1; 3]);
    }
}
