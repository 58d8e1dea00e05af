//! A meeting: threads wait for each other and exchange values.

use std::any::Any;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use candle_core::{Result, bail};

/// A meeting of a fixed number of threads, each with a [`Member`].
pub struct Meeting {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// Values of this round, by member.
    said: Vec<Option<Box<dyn Any + Send>>>,
    /// Number of members that have received the values of this round.
    heard: usize,
    /// Members that have left, in order.
    left: Vec<usize>,
}

impl Meeting {
    /// A meeting and its members.
    pub fn of(members: usize) -> (Arc<Self>, Vec<Member>) {
        let said = (0..members).map(|_| None).collect();
        let state = Mutex::new(State { said, heard: 0, left: Vec::new() });
        let meeting = Arc::new(Self { state, changed: Condvar::new() });
        let members = (0..members).map(|rank| Member { rank, meeting: meeting.clone() }).collect();
        (meeting, members)
    }

    /// Members that have left, in order.
    pub fn left(&self) -> Vec<usize> {
        self.state().left.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics in a meeting")
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).expect("no thread panics in a meeting")
    }
}

/// A member of a meeting. It leaves when dropped; then no member can meet any more.
pub struct Member {
    rank: usize,
    meeting: Arc<Meeting>,
}

impl Member {
    /// Index of this member.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Number of members.
    pub fn replicas(&self) -> usize {
        self.meeting.state().said.len()
    }

    /// Waits until all members have given a value, and returns the values in the members' order.
    ///
    /// # Errors
    /// If a member has left.
    ///
    /// # Panics
    /// If the values are of different types: then the members are not at the same point of the program.
    pub fn meet<T: Clone + Send + 'static>(&self, word: T) -> Result<Vec<T>> {
        let mut state = self.meeting.state();
        let gone = || bail!("another replica of this run has ended");
        // Waits until all have received the values of the previous round.
        while state.said[self.rank].is_some() {
            if !state.left.is_empty() {
                return gone();
            }
            state = self.meeting.wait(state);
        }
        state.said[self.rank] = Some(Box::new(word));
        self.meeting.changed.notify_all();
        while state.said.iter().any(Option::is_none) {
            if !state.left.is_empty() {
                return gone();
            }
            state = self.meeting.wait(state);
        }
        let heard = |word: &Option<Box<dyn Any + Send>>| word.as_ref()?.downcast_ref::<T>().cloned();
        let words: Option<Vec<T>> = state.said.iter().map(heard).collect();
        state.heard += 1;
        if state.heard == state.said.len() {
            state.heard = 0;
            state.said.iter_mut().for_each(|word| *word = None);
            self.meeting.changed.notify_all();
        }
        drop(state);
        Ok(words.expect("all replicas are at the same point"))
    }
}

impl Member {
    /// Leaves, and waits until all have left.
    #[cfg(any(feature = "cuda", test))]
    pub fn close(&self) {
        self.leave();
        let mut state = self.meeting.state();
        while state.left.len() < state.said.len() {
            state = self.meeting.wait(state);
        }
    }

    /// Leaves. No member can meet any more.
    pub fn leave(&self) {
        let mut state = self.meeting.state();
        if !state.left.contains(&self.rank) {
            state.left.push(self.rank);
        }
        drop(state);
        self.meeting.changed.notify_all();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn all_hear_all_in_every_round() {
        let (meeting, members) = Meeting::of(3);
        thread::scope(|scope| {
            for member in members {
                scope.spawn(move || {
                    for round in 0..2000 {
                        let said = member.meet((member.rank(), round)).unwrap();
                        assert_eq!(said, [(0, round), (1, round), (2, round)]);
                        if round % 7 == member.rank() {
                            thread::yield_now();
                        }
                        assert_eq!(member.meet(round == 9).unwrap(), [round == 9; 3]);
                    }
                });
            }
        });
        assert_eq!(meeting.left().len(), 3);
    }

    #[test]
    fn one_who_closes_waits_for_all_and_is_not_waited_for() {
        let (meeting, members) = Meeting::of(2);
        let after = thread::scope(|scope| {
            let threads = members.into_iter().map(|member| {
                let meeting = meeting.clone();
                scope.spawn(move || {
                    if member.rank() == 1 {
                        assert!(member.meet(()).is_err());
                        assert_eq!(meeting.left(), [0]);
                    }
                    member.close();
                    meeting.left()
                })
            });
            threads.collect::<Vec<_>>().into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(after, [[0, 1], [0, 1]]);
    }

    #[test]
    fn members_do_not_wait_for_one_that_has_left() {
        for panics in [false, true] {
            let (meeting, mut members) = Meeting::of(3);
            let last = members.pop().unwrap();
            thread::scope(|scope| {
                let waiting: Vec<_> = members
                    .into_iter()
                    .map(|member| {
                        scope.spawn(move || {
                            member.meet(1).unwrap();
                            member.meet(2).unwrap_err().to_string()
                        })
                    })
                    .collect();
                let left = scope.spawn(move || {
                    last.meet(1).unwrap();
                    // What a bug would do: unwinding drops the member. No message, which would look like a failed test.
                    if panics {
                        std::panic::resume_unwind(Box::new("a bug"));
                    }
                });
                assert_eq!(left.join().is_err(), panics);
                for thread in waiting {
                    assert!(thread.join().unwrap().contains("another replica of this run has ended"));
                }
            });
            assert_eq!(meeting.left()[0], 2, "the first to leave has the cause");
        }
    }
}
