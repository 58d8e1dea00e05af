//! A model and a bucket of photos → Parquet files of verdicts. Machines share the photos by number and need not know of each other: a
//! file is named by what it holds, written whole, and skipped where it is there, so that any part of the work may be done again.

mod ahead;
mod folder;
mod parts;
mod photos;
mod store;
mod table;

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use dinomaly_core::bundle::MANIFEST;
use dinomaly_core::photo::decode::Photo;
use serde_json::json;
use sha2::{Digest, Sha256};

pub use self::parts::Shard;

use self::ahead::Ahead;
use self::parts::Part;
use self::store::{Fetched, Place};
use self::table::Line;
use crate::dataset::check::Colours;
use crate::dataset::{counted, few};
use crate::inference::{CLIPPED, DetectorDevice, Judging, LoadedModel, ODD, Row, is_odd};
use crate::model_dir;
use crate::system::progress::Progress;

/// Threads that talk to stores. They mostly wait.
const THREADS: usize = 2;

/// Version of what decides a part's content beside its photos, model and options.
const VERSION: u32 = 1;

/// The photos, the model and the place of the results.
#[derive(Clone, Debug)]
pub struct ScorePlan {
    /// Folder of the model.
    pub model: PathBuf,
    /// Folder of the photos, or URL of a place in a bucket.
    pub from: String,
    /// Place of the results, likewise.
    pub to: String,
    /// File that lists the photos; all that are there if omitted.
    pub list: Option<PathBuf>,
    /// Which share of the photos to score.
    pub shard: Shard,
    /// Photos of a file of results.
    pub part_size: usize,
    /// Which thresholds apply, and which regions to find.
    pub judging: Judging,
    /// The device and precision of the detector.
    pub place: DetectorDevice,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scored {
    /// Photos that were scored now.
    pub photos: usize,
    /// Photos of the shard.
    pub of: usize,
    /// Photos among those scored now that cannot be read.
    pub unreadable: usize,
    /// Parts that were written.
    pub written: usize,
    /// Parts that were there already.
    pub there: usize,
}

/// Scores a shard's photos and writes their rows, part by part. Must not be called on a thread of rayon's pool or of an async runtime.
///
/// # Errors
/// If the model is unusable, a place does not exist, refuses, or has no photos, or the device fails. The parts that are written stay, and the same call
/// goes on after them. A photo that cannot be read is no error: its row says why.
pub fn score(plan: &ScorePlan) -> Result<Scored> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
    let from = Place::open("--from", &plan.from, runtime.handle())?;
    let to = Place::open("--to", &plan.to, runtime.handle())?;
    // Once, so that model and hash are of one commit.
    let folder = model_dir::locate(&plan.model)?;
    let model = LoadedModel::open(&folder, plan.place)?;
    model.check(&plan.judging)?;
    let manifest = folder.join(MANIFEST);
    let manifest = fs::read(&manifest).with_context(|| format!("{} cannot be read", manifest.display()))?;
    let sha256: String = Sha256::digest(manifest).iter().map(|byte| format!("{byte:02x}")).collect();

    let (photos, of_all) = photos::of(&from, &plan.from, plan.list.as_deref(), plan.shard)?;
    let parts = parts::divide(&photos, plan.shard, plan.part_size, &work(plan, &sha256)?);
    let names = to.names()?;
    let others = parts::others(&names, &parts, plan.shard);
    if !others.is_empty() {
        eprintln!(
            "dinomaly: {} in {} of other photos, another model or another number of shards, whose rows stand beside the new ones: {}",
            counted(others.len(), "part is", "parts are"),
            plan.to,
            few(&others)
        );
    }
    let (there, pending): (Vec<&Part>, Vec<&Part>) = parts.iter().partition(|part| names.contains(&part.name));
    let left: usize = pending.iter().map(|part| part.photos.len()).sum();
    if plan.shard.count > 1 {
        eprintln!("dinomaly: shard {}: {} of {of_all} photos, {left} of them to score", plan.shard, photos.len());
    }
    let mut scored = Scored { of: photos.len(), there: there.len(), ..Scored::default() };
    if pending.is_empty() {
        return Ok(scored);
    }
    to.check_writable()?;
    plan.judging.say_what_applies(model.calibration());

    let about = [("model", model.name().to_owned()), ("model_sha256", sha256)];
    let progress = Progress::resumed("scoring", photos.len() - left, photos.len(), "photos");
    let mut pending = pending.into_iter();
    // The next part that nobody has written meanwhile, with its photos on their way.
    let mut next = |scored: &mut Scored| -> Result<Option<(&Part, Ahead)>> {
        for part in pending.by_ref() {
            if !to.has(&part.name)? {
                return Ok(Some((part, Ahead::begin(&from, &part.photos, runtime.handle()))));
            }
            scored.there += 1;
            progress.advance(part.photos.len(), String::new);
        }
        Ok(None)
    };
    let doubts = Doubts::default();
    let mut present = next(&mut scored)?;
    while let Some((part, ahead)) = present {
        let lines = lines(&model, &plan.judging, part, &ahead, &doubts, &progress)?;
        // Its photos come while this one is written.
        present = next(&mut scored)?;
        scored.photos += lines.len();
        scored.unreadable += lines.iter().filter(|line| line.row.is_err()).count();
        let file = table::parquet(&lines, plan.judging.regions.is_some(), &about)?;
        if to.write(&part.name, file)? {
            scored.written += 1;
        } else {
            scored.there += 1;
        }
    }
    progress.finish();
    doubts.say();
    Ok(scored)
}

/// What decides a row beside the photo. The device does not: it changes the last digits only.
fn work(plan: &ScorePlan, model: &str) -> Result<String> {
    let Judging { class, regions } = &plan.judging;
    let regions = regions.map(|regions| (regions.pixel_threshold, regions.min_area));
    let work =
        json!({ "version": VERSION, "model": model, "class": class, "regions": regions, "int8": plan.place.int8 });
    Ok(serde_json::to_string(&work)?)
}

/// Reading a photo may succeed another time, so that it is no property of the photo.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Interrupted(String);

/// The rows of a part.
fn lines(
    model: &LoadedModel,
    judging: &Judging,
    part: &Part,
    ahead: &Ahead,
    doubts: &Doubts,
    progress: &Progress,
) -> Result<Vec<Line>> {
    let window = model.window();
    let read = |i: usize, photo: &photos::Photo| {
        let bytes = match ahead.take(i) {
            Ok(Fetched::Content(bytes)) => bytes,
            Ok(Fetched::Unreadable(reason)) => return Err(anyhow::Error::msg(reason)),
            Err(error) => return Err(Interrupted(format!("{error:#}")).into()),
        };
        let decoded = Photo::decode_in(&photo.path, &bytes, window)?;
        if is_odd(&decoded) {
            doubts.odd.fetch_add(1, Ordering::Relaxed);
        } else if window.is_none() && Colours::of(&bytes).is_some_and(|(_, colours)| colours == Colours::Grey16) {
            doubts.clipped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(decoded)
    };
    let mut lines = Vec::with_capacity(part.photos.len());
    model.detect(&part.photos, read, judging, |i, judged| {
        let photo = part.photos[i].path.clone();
        let row = match judged {
            Ok(judged) => Ok(Row::new(photo.clone(), &judged.judgement)),
            Err(error) if error.is::<Interrupted>() => return Err(error),
            Err(error) => Err(format!("{error:#}")),
        };
        lines.push(Line { photo, row });
        progress.advance(1, String::new);
        Ok(())
    })?;
    Ok(lines)
}

/// Photos whose verdicts are unreliable.
#[derive(Default)]
struct Doubts {
    odd: AtomicUsize,
    clipped: AtomicUsize,
}

impl Doubts {
    /// How many there are, on standard error.
    fn say(&self) {
        for (count, doubt) in [(&self.odd, ODD), (&self.clipped, CLIPPED)] {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                eprintln!("dinomaly: verdicts are unreliable for {} {doubt}", counted(count, "photo", "photos"));
            }
        }
    }
}
