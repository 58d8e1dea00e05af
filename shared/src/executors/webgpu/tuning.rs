//! The fastest tile of linear layers on an adapter, measured when it is first opened, then remembered.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use web_time::{Duration, Instant};

use super::linear::Tile;
use super::{Adapter, WebGpu};
use crate::ops::{Linear, Ops, Then};
use crate::tensor::HostTensor;
use crate::{Error, Result};

/// Tokens, inputs and outputs of the timed layer: queries, keys and values of ViT-S at 392².
const TYPICAL: [usize; 3] = [789, 384, 1152];
/// Number of products per measurement, and of measurements, of which the shortest counts.
const PRODUCTS: usize = 4;
const MEASUREMENTS: usize = 2;
/// Time after which no further tile is tried. Real GPUs need a fraction of it; an emulated GPU that is not recognised as one would
/// need half a minute.
const PATIENCE: Duration = Duration::from_millis(400);

/// Fastest tile by adapter.
static FASTEST: Mutex<BTreeMap<String, Tile>> = Mutex::new(BTreeMap::new());

impl WebGpu {
    /// Tuning of this adapter, as a line of text for [`WebGpu::restore`].
    pub fn tuning(&self) -> String {
        format!("{}: {}", identity(self.adapter()), self.tile.name())
    }

    /// Restores the tuning of an adapter, so that it is not measured when it is opened.
    ///
    /// # Errors
    /// [`Error::Config`] if the text is not from [`WebGpu::tuning`]. The error may be ignored: the adapter is measured again.
    pub fn restore(tuning: &str) -> Result<()> {
        let known = tuning.rsplit_once(": ").and_then(|(adapter, name)| {
            Tile::ALL.into_iter().find(|tile| tile.name() == name).map(|tile| (adapter.to_owned(), tile))
        });
        let (adapter, tile) = known.ok_or_else(|| {
            Error::config(format!("{tuning:?} is no tuning of a GPU: omit it, and the GPU is measured again"))
        })?;
        remember(adapter, tile);
        Ok(())
    }

    /// Fastest tile of this adapter.
    pub(super) async fn fastest_tile(&self) -> Result<Tile> {
        let adapter = identity(self.adapter());
        let known = FASTEST.lock().unwrap_or_else(PoisonError::into_inner).get(&adapter).copied();
        if let Some(tile) = known {
            return Ok(tile);
        }
        // Emulated GPUs have no shared memory: its emulation always costs time.
        let tile =
            if self.adapter().is_software { Tile::Registers } else { fastest(&self.measure(TYPICAL, PATIENCE).await?) };
        remember(adapter, tile);
        Ok(tile)
    }

    /// Time of a layer of the given tokens, inputs and outputs in each tile, until the time is up.
    async fn measure(
        &self,
        [tokens, inputs, outputs]: [usize; 3],
        patience: Duration,
    ) -> Result<Vec<(Tile, Duration)>> {
        let started = Instant::now();
        let zeros = |shape: &[usize]| HostTensor::f32(shape, vec![0.0; shape.iter().product()]);
        let x = self.upload(&zeros(&[1, tokens, inputs])?)?;
        let layer = Linear { weight: self.upload(&zeros(&[outputs, inputs])?)?, bias: None };
        // Reading it back waits for all earlier commands.
        let mark = self.upload(&zeros(&[1])?)?;
        let mut times = Vec::new();
        for tile in Tile::ALL {
            // The first product compiles the kernel.
            self.product(tile, &x, &layer, Then::Store)?;
            self.read(&mark).await?;
            if started.elapsed() > patience {
                break;
            }
            let mut shortest = Duration::MAX;
            for _ in 0..MEASUREMENTS {
                let begun = Instant::now();
                for _ in 0..PRODUCTS {
                    self.product(tile, &x, &layer, Then::Store)?;
                }
                self.read(&mark).await?;
                shortest = shortest.min(begun.elapsed());
            }
            times.push((tile, shortest));
        }
        Ok(times)
    }
}

fn fastest(times: &[(Tile, Duration)]) -> Tile {
    times.iter().min_by_key(|(_, time)| *time).map_or(Tile::Registers, |(tile, _)| *tile)
}

fn identity(adapter: &Adapter) -> String {
    format!("{} {} {}", adapter.vendor, adapter.name, adapter.backend)
}

fn remember(adapter: String, tile: Tile) {
    FASTEST.lock().unwrap_or_else(PoisonError::into_inner).insert(adapter, tile);
}

#[cfg(test)]
mod tests {
    use pollster::block_on;

    use super::*;

    #[test]
    fn what_was_found_is_kept_and_what_is_not_understood_refused() {
        let Ok(gpu) = block_on(WebGpu::new()) else { return println!("SKIPPED: no GPU") };
        let times = block_on(gpu.measure([33, 64, 96], Duration::MAX)).unwrap();
        println!("{:?}: {times:?}", gpu.adapter());
        assert_eq!(times.len(), Tile::ALL.len());
        let slowest = times.iter().max_by_key(|(_, time)| *time).unwrap().1;
        assert!(times.iter().find(|(tile, _)| *tile == fastest(&times)).unwrap().1 < slowest);

        assert!(block_on(gpu.measure([33, 64, 96], Duration::ZERO)).unwrap().is_empty());
        assert_eq!(fastest(&[]), Tile::Registers);

        let other = gpu.with_tile(Tile::Large).tuning();
        assert!(other.ends_with(" vulkan: large"), "{other}");
        WebGpu::restore(&other).unwrap();
        assert_eq!(block_on(WebGpu::new()).unwrap().tuning(), other);
        for wrong in ["", "Mesa llvmpipe vulkan: huge", "large"] {
            let reason = WebGpu::restore(wrong).unwrap_err().to_string();
            assert!(reason.contains("is no tuning of a GPU"), "{reason}");
        }
    }
}
