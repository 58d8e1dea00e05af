//! `dinomaly score`: a model and photos in a bucket or folder → verdicts as Parquet files, each machine its share.

use std::path::PathBuf;

use anyhow::Result;

use super::options::{LookOption, RegionOption, within};
use crate::dataset::counted;
use crate::inference::Judging;
use crate::scoring::{self, ScorePlan, Shard};

/// Arguments of `dinomaly score`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Model folder, or hf:OWNER/NAME on the hub
    model: PathBuf,
    /// Photos: a folder, or a URL that begins with s3, gs, az, http, https or file; what is below counts, too
    #[arg(long, value_name = "URL")]
    from: String,
    /// Place of the results, likewise
    #[arg(long, value_name = "URL")]
    to: String,
    /// Text file with the paths of the photos below --from, one a line, or CSV with a column path [default: all photos there]
    #[arg(long, value_name = "FILE")]
    list: Option<PathBuf>,
    /// Share of the photos to score here, and number of shares, such as 0/4 to 3/4
    #[arg(long, default_value = "0/1", value_name = "I/N")]
    shard: Shard,
    /// Number of photos of a result file, which is also what a killed process has to compute again at most
    #[arg(long, default_value_t = 1000, value_parser = within(1_usize, 1_000_000), value_name = "N")]
    part_size: usize,
    /// Product class whose threshold applies [default: the one that each photo is nearest to]
    #[arg(long)]
    class: Option<String>,
    #[command(flatten)]
    regions: RegionOption,
    #[command(flatten)]
    device: LookOption,
}

/// Scores a share of the photos and says what was written.
///
/// # Errors
/// As [`scoring::score()`].
pub fn run(args: &Args) -> Result<()> {
    let scored = scoring::score(&ScorePlan {
        model: args.model.clone(),
        from: args.from.clone(),
        to: args.to.clone(),
        list: args.list.clone(),
        shard: args.shard,
        part_size: args.part_size,
        judging: Judging { class: args.class.clone(), regions: args.regions.plan() },
        place: args.device.place(),
    })?;
    println!(
        "shard {}: {} of {} scored, {} of them unreadable; {} written, {} there already",
        args.shard,
        counted(scored.photos, "photo", "photos"),
        scored.of,
        scored.unreadable,
        counted(scored.written, "part", "parts"),
        scored.there
    );
    Ok(())
}
