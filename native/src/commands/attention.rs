//! `dinomaly attention`: a model and a photo → pictures of the decoder's attention.

use std::path::PathBuf;

use anyhow::{Result, anyhow};

use super::options::DeviceOption;
use crate::inference::{self, AttentionPlan};
use crate::system::table::align;

/// Arguments of `dinomaly attention`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Model folder; its decoder must have softmax or linear attention
    model: PathBuf,
    /// Photo to look at
    photo: PathBuf,
    /// Folder to write the pictures to, as PNG
    ///
    /// There is one picture for each query and decoder block: the mean over the heads.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Pixel whose patch is the query; may be repeated [default: the photo's centre]
    #[arg(long, value_parser = parse_place, value_name = "X,Y")]
    query: Vec<(f64, f64)>,
    /// Write a picture of each head as well
    #[arg(long)]
    heads: bool,
    #[command(flatten)]
    device: DeviceOption,
}

/// Draws the pictures, and prints the spread of each block's attention.
///
/// # Errors
/// As [`inference::draw_attention()`].
pub fn run(args: &Args) -> Result<()> {
    let spreads = inference::draw_attention(&AttentionPlan {
        model: args.model.clone(),
        photo: args.photo.clone(),
        out: args.out.clone(),
        queries: args.query.clone(),
        each_head: args.heads,
        device: args.device.choice(),
    })?;
    let mut rows = vec![["block", "entropy", "distance"].map(str::to_owned).to_vec()];
    for (block, spread) in spreads.blocks.iter().enumerate() {
        rows.push(vec![(block + 1).to_string(), format!("{:.3}", spread.entropy), format!("{:.2}", spread.distance)]);
    }
    print!("{}", align(&rows));
    println!(
        "means over all patches: entropy relative to uniform weights, distance in patches ({} per side)",
        spreads.grid
    );
    Ok(())
}

fn parse_place(text: &str) -> Result<(f64, f64)> {
    let place = text.split_once(',').and_then(|(x, y)| Some((x.trim().parse().ok()?, y.trim().parse().ok()?)));
    place.ok_or_else(|| anyhow!("{text} is not a pixel such as 120,80"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_two_numbers() {
        assert_eq!(parse_place("1.5, 2").unwrap(), (1.5, 2.0));
        assert!(parse_place("1").is_err());
    }
}
