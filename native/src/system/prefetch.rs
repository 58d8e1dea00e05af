//! A pipeline of two stages: all cores make the next batch while the calling thread takes the present one.

use std::panic::resume_unwind;
use std::thread::{Builder, ScopedJoinHandle};

use anyhow::Result;
use rayon::prelude::*;

/// Calls `make` for every item on all cores, and `take` with the results, batch by batch in order. The next batch is made meanwhile,
/// so that at most two are in memory. `take` also gets the index of the batch's first item, and returns whether to go on; its last
/// answer is returned. Must not be called on a thread of rayon's pool, which would wait for itself.
///
/// # Errors
/// Those of `take`.
pub fn prefetch<I: Sync, T: Send>(
    items: &[I],
    batch: usize,
    make: impl Fn(usize, &I) -> T + Sync,
    mut take: impl FnMut(usize, Vec<T>) -> Result<bool>,
) -> Result<bool> {
    let make = |first: usize, items: &[I]| -> Vec<T> {
        items.par_iter().enumerate().map(|(i, item)| make(first + i, item)).collect()
    };
    let make = &make;
    std::thread::scope(|scope| {
        let mut batches = items.chunks(batch).enumerate();
        let mut begin = || -> Result<Option<(usize, ScopedJoinHandle<'_, Vec<T>>)>> {
            let Some((number, items)) = batches.next() else { return Ok(None) };
            let first = number * batch;
            Ok(Some((first, Builder::new().spawn_scoped(scope, move || make(first, items))?)))
        };
        let mut next = begin()?;
        while let Some((first, thread)) = next {
            let made = thread.join().unwrap_or_else(|panic| resume_unwind(panic));
            next = begin()?;
            if !take(first, made)? {
                return Ok(false);
            }
        }
        Ok(true)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    use anyhow::bail;

    use super::*;

    #[test]
    fn batches_come_in_order_and_one_is_made_ahead() {
        let items: Vec<usize> = (0..10).collect();
        let made = AtomicUsize::new(0);
        let make = |place: usize, item: &usize| {
            made.fetch_add(1, Ordering::SeqCst);
            (place, item * item)
        };
        let mut taken = Vec::new();
        let finished = prefetch(&items, 4, make, |first, batch| {
            assert_eq!(first, taken.len());
            taken.extend(batch);
            // While this batch is taken, the next one is made, but not the one after it.
            let (expected, begun) = ((taken.len() + 4).min(10), Instant::now());
            while made.load(Ordering::SeqCst) < expected {
                assert!(begun.elapsed() < Duration::from_secs(20), "nothing is made ahead");
                std::thread::yield_now();
            }
            assert_eq!(made.load(Ordering::SeqCst), expected);
            Ok(true)
        });
        assert!(finished.unwrap());
        assert_eq!(taken, (0..10).map(|i| (i, i * i)).collect::<Vec<_>>());
    }

    #[test]
    fn the_consumer_may_stop() {
        let items = [(); 9];
        let mut seen = Vec::new();
        let stopped = prefetch(
            &items,
            2,
            |place, ()| place,
            |first, _| {
                seen.push(first);
                Ok(first < 4)
            },
        );
        assert!(!stopped.unwrap());
        let refused =
            prefetch(&items, 2, |place, ()| place, |first, _| if first == 2 { bail!("no") } else { Ok(true) });
        assert_eq!((refused.unwrap_err().to_string().as_str(), seen), ("no", vec![0, 2, 4]));
        assert!(prefetch(&[(); 0], 2, |place, ()| place, |_, _: Vec<usize>| bail!("nothing to take")).unwrap());
    }
}
