//! A thread per core, each with its own work.
//!
//! candle splits every matrix product over all threads, which slows down small products. Here each thread computes its own share of
//! a batch: a step of distilling a small encoder on two cores takes half the time.

use std::sync::Mutex;
use std::thread;

use rayon::{ThreadPool, ThreadPoolBuilder};

/// The threads.
pub struct Workers {
    /// Pools of one thread each, in which parallel products run on that thread.
    pools: Vec<ThreadPool>,
}

impl Workers {
    /// A thread per core, or the number in `RAYON_NUM_THREADS`.
    ///
    /// # Panics
    /// If the system gives no thread.
    pub fn new() -> Self {
        let pool = |_| ThreadPoolBuilder::new().num_threads(1).build().expect("the system gives threads");
        Self { pools: (0..rayon::current_num_threads()).map(pool).collect() }
    }

    /// No threads: the calling one does all work. On CUDA every thread has its own queue, and results of one queue are not yet
    /// available to another.
    pub fn none() -> Self {
        Self { pools: Vec::new() }
    }

    /// Results of `work` for all items, in order. A free thread takes the next item.
    pub fn map<I: Send, T: Send>(&self, items: Vec<I>, work: impl Fn(I) -> T + Sync) -> Vec<T> {
        if self.pools.is_empty() {
            return items.into_iter().map(work).collect();
        }
        let items: Mutex<_> = Mutex::new(items.into_iter().enumerate());
        let done = Mutex::new(Vec::new());
        let next = || items.lock().expect("no thread panics while it takes an item").next();
        thread::scope(|scope| {
            for pool in &self.pools {
                scope.spawn(|| {
                    pool.install(|| {
                        while let Some((place, item)) = next() {
                            let result = work(item);
                            done.lock().expect("no thread panics while it puts a result").push((place, result));
                        }
                    });
                });
            }
        });
        let mut done = done.into_inner().expect("no thread panicked");
        done.sort_by_key(|(place, _)| *place);
        done.into_iter().map(|(_, result)| result).collect()
    }
}

impl Default for Workers {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items() {
        let slow_first = |i: u64| {
            thread::sleep(std::time::Duration::from_millis(20 - i));
            i * i
        };
        assert_eq!(Workers::new().map((0..20).collect(), slow_first), (0..20).map(|i| i * i).collect::<Vec<_>>());
        assert_eq!(Workers::new().map(Vec::new(), slow_first), Vec::<u64>::new());
    }

    #[test]
    fn without_threads_the_one_that_asks_works() {
        let asking = thread::current().id();
        let seen = Workers::none().map(vec![1, 2, 3], |i| (i, thread::current().id()));
        assert_eq!(seen, [1, 2, 3].map(|i| (i, asking)));
    }
}
