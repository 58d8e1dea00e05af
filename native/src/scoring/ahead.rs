//! Photos are read from their store ahead of the device, so many at a time and no more in memory than is bounded here.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinHandle;

use super::photos::Photo;
use super::store::{Fetched, Place};

/// Largest number of photos that are under way or wait to be decoded.
const PHOTOS: u32 = 64;

/// Largest sum of their files in KiB. A file that is larger comes alone.
const KIB: u32 = 256 << 10;

/// The files of a part's photos, on their way from the time that this is made.
pub struct Ahead {
    arriving: Vec<Mutex<Option<oneshot::Receiver<Arrived>>>>,
    /// Asks for one photo after the other.
    asking: JoinHandle<()>,
}

struct Arrived {
    file: Result<Fetched>,
    /// Given back when the file is taken.
    _room: [OwnedSemaphorePermit; 2],
}

impl Ahead {
    /// Begins to read photos, in their order.
    pub fn begin(from: &Place, photos: &[Photo], runtime: &Handle) -> Self {
        let (senders, receivers): (Vec<_>, Vec<_>) = photos.iter().map(|_| oneshot::channel()).unzip();
        let (from, photos) = (from.clone(), photos.to_vec());
        let room = [PHOTOS, KIB].map(|room| Arc::new(Semaphore::new(room as usize)));
        let asking = runtime.spawn(async move {
            for (photo, sender) in photos.into_iter().zip(senders) {
                let size = photo.file.as_ref().map_or(0, |stamp| stamp.size);
                let kib = u32::try_from(size / 1024 + 1).unwrap_or(KIB).min(KIB);
                let [one, bytes] = &room;
                // Never closed. In this order, so that the first photo that is not taken yet always gets its room.
                let Ok(one) = one.clone().acquire_owned().await else { return };
                let Ok(bytes) = bytes.clone().acquire_many_owned(kib).await else { return };
                let from = from.clone();
                tokio::spawn(async move {
                    let file = read(&from, &photo).await;
                    // Nobody waits any more if the work was given up.
                    let _ = sender.send(Arrived { file, _room: [one, bytes] });
                });
            }
        });
        Self { arriving: receivers.into_iter().map(|receiver| Mutex::new(Some(receiver))).collect(), asking }
    }

    /// The file of a photo, once. Waits until it is there; not to be called on a thread that drives the reading.
    ///
    /// # Errors
    /// As [`Place::fetch`].
    pub fn take(&self, index: usize) -> Result<Fetched> {
        let receiver = self.arriving[index].lock().unwrap_or_else(PoisonError::into_inner).take();
        receiver.context("a file is taken once")?.blocking_recv().context("a file was not read")?.file
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.asking.abort();
    }
}

async fn read(from: &Place, photo: &Photo) -> Result<Fetched> {
    match &photo.file {
        Ok(stamp) => from.fetch(&photo.path, stamp).await,
        Err(reason) => Ok(Fetched::Unreadable(reason.clone())),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::store::{Stamp, Version};
    use super::*;

    #[test]
    fn more_photos_than_there_is_room_for_come_in_any_order() {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let from = Place::open("--from", &folder.path().display().to_string(), runtime.handle()).unwrap();
        let photo = |i: u32| {
            let path = format!("{i}.png");
            std::fs::write(folder.path().join(&path), i.to_string()).unwrap();
            // The room that is asked for is that of the stamp: each takes all of it.
            Photo { path, file: Ok(Stamp { size: 1 << 40, version: Version::Changed(0) }) }
        };
        let photos: Vec<Photo> = (0..2 * PHOTOS).map(photo).collect();
        let ahead = Ahead::begin(&from, &photos, runtime.handle());
        for i in 0..photos.len() {
            let error = ahead.take(i).err().expect("another size than was listed").to_string();
            assert!(error.contains(&format!("/{i}.png was changed since")), "{error}");
        }

        let stamps = from.stamps(&photos.iter().map(|photo| photo.path.clone()).collect::<Vec<_>>()).unwrap();
        let photos: Vec<Photo> = photos
            .into_iter()
            .zip(stamps)
            .map(|(photo, stamp)| Photo { file: stamp.ok_or_else(String::new), ..photo })
            .collect();
        let ahead = Ahead::begin(&from, &photos, runtime.handle());
        std::thread::sleep(Duration::from_millis(50));
        let arrived = |i: usize| ahead.arriving[i].lock().unwrap().as_mut().is_some_and(|it| !it.is_empty());
        assert!(arrived(0) && !arrived(PHOTOS as usize), "no more than {PHOTOS} are read ahead");
        for i in (0..photos.len() / 2).rev().chain(photos.len() / 2..photos.len()) {
            let Fetched::Content(content) = ahead.take(i).unwrap() else { panic!("{i}") };
            assert_eq!(content, i.to_string().as_bytes());
        }
        drop(Ahead::begin(&from, &photos, runtime.handle()));
    }
}
