//! `dinomaly publish`: a model, or a page, → a repository on the hub.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::hub::{Address, Committed, Upload};
use crate::publish::hub::{self, HubPlan};
use crate::site::space::{self, SpacePlan};
use crate::system::table::align;

/// Arguments of `dinomaly publish`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Model folder; with --space, folder that `dinomaly site` wrote
    model: PathBuf,
    /// Repository on the hub, which is made if it is not there
    #[arg(value_name = "hf:OWNER/NAME", value_parser = Address::parse)]
    place: Address,
    /// Publish a page as a static Space, in place of a model
    #[arg(long)]
    space: bool,
    /// Make a repository that only its owner sees
    #[arg(long)]
    private: bool,
    /// Branch to write to, which is made if it is not there [default: main]
    #[arg(long, value_name = "BRANCH")]
    revision: Option<String>,
    /// Title of the commit
    #[arg(long, value_name = "TEXT")]
    message: Option<String>,
    /// The hub's identifier of the model's licence, such as apache-2.0 [default: that of the encoder, if it is known]
    #[arg(long, value_name = "ID", conflicts_with = "space")]
    license: Option<String>,
    /// Metrics for the card: JSON that `dinomaly evaluate --json` wrote
    #[arg(long, value_name = "FILE", requires = "dataset", conflicts_with = "space")]
    metrics: Option<PathBuf>,
    /// Name of the data set that the metrics are of
    #[arg(long, value_name = "NAME", requires = "metrics")]
    dataset: Option<String>,
    /// Replace files of others that the repository has where new ones would be
    #[arg(long)]
    replace: bool,
    /// Print card and files, and send nothing
    #[arg(long)]
    dry_run: bool,
}

/// Publishes, and prints what was sent and where it is.
///
/// # Errors
/// If the folder is unusable, there is no token, or the hub refuses.
pub fn run(args: &Args) -> Result<()> {
    let mut place = args.place.clone();
    if let Some(branch) = &args.revision {
        if place.revision.is_some() {
            bail!("{place} names a branch already: leave out --revision");
        }
        place = Address::parse(&format!("{place}@{branch}"))?;
    }
    let (private, replace, message) = (args.private, args.replace, args.message.clone());
    if args.space {
        let prepared =
            space::prepare(SpacePlan { site: args.model.clone(), place: place.clone(), private, replace, message })?;
        if args.dry_run {
            return show(&prepared.card, &prepared.files);
        }
        return report(&prepared.publish()?, &place, &prepared.files, private);
    }
    let metrics = args.metrics.clone().zip(args.dataset.clone());
    let licence = args.license.clone();
    let model = args.model.clone();
    let prepared = hub::prepare(&HubPlan { model, place: place.clone(), private, replace, message, licence, metrics })?;
    if !prepared.has_licence {
        eprintln!("dinomaly: the card names no licence, because the encoder's is not known: name one with --license");
    }
    if args.dry_run {
        return show(&prepared.card, &prepared.files);
    }
    report(&prepared.publish()?, &place, &prepared.files, private)
}

fn show(card: &str, files: &[Upload]) -> Result<()> {
    println!("{card}");
    let mut rows = vec![["file", "bytes"].map(str::to_owned).to_vec()];
    let mut total = 0;
    for file in files {
        let bytes = file.bytes()?;
        rows.push(vec![file.path.clone(), bytes.to_string()]);
        total += bytes;
    }
    rows.push(vec!["total".into(), total.to_string()]);
    print!("{}", align(&rows));
    println!("nothing was sent: --dry-run");
    Ok(())
}

fn report(made: &Committed, place: &Address, files: &[Upload], private: bool) -> Result<()> {
    let commit = made.commit.get(..8).unwrap_or(&made.commit);
    if made.is_unchanged {
        println!("{place} has these files already, in commit {commit}: {}", made.page);
        return Ok(());
    }
    let total: u64 = files.iter().map(Upload::bytes).sum::<Result<u64>>()?;
    println!(
        "{place}: {} files, {:.1} MB, of large ones {:.1} MB sent, in commit {commit}: {}",
        files.len(),
        total as f64 / 1e6,
        made.sent as f64 / 1e6,
        made.page
    );
    if !made.removed.is_empty() {
        println!("removed of an earlier one: {}", made.removed.join(", "));
    }
    if private && !made.is_new {
        eprintln!("dinomaly: the repository was there, and stays as visible as it was: change that on its page");
    }
    Ok(())
}
