//! The loss of one group and its gradient, in three passes over memory. The k-th distance is found on the device of the features.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};
#[cfg(feature = "cuda")]
use candle_core::{CudaStorage, DType};
use dinomaly_core::executors::candle::fused::{sum, values};
use dinomaly_core::executors::candle::kernels::mining::Points;
#[cfg(feature = "cuda")]
use dinomaly_core::executors::candle::kernels::{device::compute, mining as kernels};
use rayon::prelude::*;

use crate::training::replicas::Collective;

/// One minus the cosine of each photo's patches, `[photos]`, for contiguous f32 features `[photos, first + patches, channels]`. Its
/// gradient is that of `decoded` in the sum weighted by `weights [photos]`: multiplied by `factor` at points with a distance below the
/// `hard`-th largest, and zero at the `first` tokens. With a `team`, the `hard`-th largest distance is over all replicas' photos.
///
/// # Errors
/// If shapes differ, or another replica has ended.
pub fn photo_losses(
    encoded: &Tensor,
    decoded: &Tensor,
    first: usize,
    weights: &Tensor,
    hard: usize,
    factor: f32,
    team: Option<&dyn Collective>,
) -> Result<(Tensor, Tensor)> {
    if encoded.dims() != decoded.dims() {
        bail!("features of shapes {:?} and {:?} cannot be compared", encoded.dims(), decoded.dims());
    }
    let stats = match team {
        None => stats(encoded, decoded, first, hard)?,
        Some(team) => stats_of_part(encoded, decoded, first, hard, team)?,
    };
    let points = points(decoded, first)?;
    let losses = stats.apply_op1_no_bwd(&Losses { points })?;
    // An operation takes three tensors at most.
    let stats = Tensor::cat(&[&stats, weights], 0)?;
    Ok((losses, encoded.apply_op3_no_bwd(decoded, &stats, &LossesGrad { points, factor })?))
}

/// Sums for the loss and its gradient, of contiguous f32 features `[photos, first + patches, channels]` (see [`Points::stats`]).
/// [`distance`] makes the points' distances from them.
///
/// # Errors
/// If the device fails.
pub fn stats(encoded: &Tensor, decoded: &Tensor, first: usize, hard: usize) -> Result<Tensor> {
    encoded.apply_op2_no_bwd(decoded, &Stats { points: points(decoded, first)?, hard })
}

/// [`stats`] of one replica's photos. The last value is the `hard`-th largest distance over all replicas.
fn stats_of_part(
    encoded: &Tensor,
    decoded: &Tensor,
    first: usize,
    hard: usize,
    team: &dyn Collective,
) -> Result<Tensor> {
    let stats = stats(encoded, decoded, first, 1)?;
    let of_points = 3 * points(decoded, first)?.count();
    let of_all = team.gather(&stats.narrow(0, 0, of_points)?)?;
    let threshold = of_all.apply_op1_no_bwd(&Kth { hard })?;
    Tensor::cat(&[stats.narrow(0, 0, stats.elem_count() - 1)?, threshold], 0)
}

fn points(features: &Tensor, first: usize) -> Result<Points> {
    let (photos, tokens, channels) = features.dims3()?;
    let Some(patches) = tokens.checked_sub(first) else { bail!("{tokens} tokens with {first} before the patches") };
    Ok(Points { photos, first, patches, channels })
}

/// One minus the cosine, from `[a · b, |a|², |b|²]`. Each norm is clamped at 1e-8 (`torch.cosine_similarity`).
pub fn distance(sums: &[f32]) -> f32 {
    1.0 - sums[0] / (sums[1].max(1e-16).sqrt() * sums[2].max(1e-16).sqrt())
}

/// `[a · b, |a|², |b|²]`.
fn sums(a: &[f32], b: &[f32]) -> [f32; 3] {
    let product = |[a, b]: [f32; 2]| a * b;
    [sum([a, b], product), sum([a, a], product), sum([b, b], product)]
}

/// The sums of all points, in one tensor (see [`Points::stats`]).
struct Stats {
    points: Points,
    hard: usize,
}

impl CustomOp2 for Stats {
    fn name(&self) -> &'static str {
        "mining-stats"
    }

    fn cpu_fwd(
        &self,
        encoded: &CpuStorage,
        encoded_layout: &Layout,
        decoded: &CpuStorage,
        decoded_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (encoded, decoded) = (values(encoded, encoded_layout)?, values(decoded, decoded_layout)?);
        let Points { first, patches, channels, .. } = self.points;
        let of_point = |point: usize| {
            let begin = (point + (point / patches + 1) * first) * channels;
            sums(&encoded[begin..begin + channels], &decoded[begin..begin + channels])
        };
        let of_points: Vec<[f32; 3]> = (0..self.points.count()).into_par_iter().map(of_point).collect();
        let total =
            |points: &[[f32; 3]], part: usize| points.iter().map(|sums| f64::from(sums[part])).sum::<f64>() as f32;
        let of_photo = |points: &[[f32; 3]]| [0, 1, 2].map(|part| total(points, part));
        let of_photos: Vec<[f32; 3]> = of_points.chunks(patches).map(of_photo).collect();
        let distances = of_points.iter().map(|sums| distance(sums)).collect();
        let mut stats = [of_points.concat(), of_photos.concat()].concat();
        stats.push(kth_largest(distances, self.hard));
        Ok((CpuStorage::F32(stats), Shape::from(self.points.stats())))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        encoded: &CudaStorage,
        encoded_layout: &Layout,
        decoded: &CudaStorage,
        decoded_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let inputs = [(encoded, encoded_layout), (decoded, decoded_layout)];
        let count = self.points.stats();
        let out = compute(inputs, [], DType::F32, count, |[encoded, decoded], [], stats| {
            kernels::stats([encoded, decoded, stats], self.points, self.hard)
        })?;
        Ok((out, Shape::from(count)))
    }
}

/// The `hard`-th largest distance `[1]` of points with these sums `[3 · points]`.
struct Kth {
    hard: usize,
}

impl CustomOp1 for Kth {
    fn name(&self) -> &'static str {
        "mining-kth"
    }

    fn cpu_fwd(&self, sums: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let distances = values(sums, layout)?.chunks(3).map(distance).collect();
        Ok((CpuStorage::F32(vec![kth_largest(distances, self.hard)]), Shape::from(1)))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, sums: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let points = layout.shape().elem_count() / 3;
        let out = compute([(sums, layout)], [], DType::F32, 1, |[sums], [], out| {
            [kernels::kth([sums, out], 0, points, self.hard)]
        })?;
        Ok((out, Shape::from(1)))
    }
}

fn kth_largest(mut values: Vec<f32>, k: usize) -> f32 {
    let (_, &mut found, _) = values.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
    found
}

struct Losses {
    points: Points,
}

impl CustomOp1 for Losses {
    fn name(&self) -> &'static str {
        "mining-losses"
    }

    fn cpu_fwd(&self, stats: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let stats = values(stats, layout)?;
        let photos = &stats[3 * self.points.count()..stats.len() - 1];
        let losses = photos.chunks(3).map(distance).collect();
        Ok((CpuStorage::F32(losses), Shape::from(self.points.photos)))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, stats: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let count = self.points.photos;
        let out = compute([(stats, layout)], [], DType::F32, count, |[stats], [], out| {
            [kernels::losses([stats, out], self.points)]
        })?;
        Ok((out, Shape::from(count)))
    }
}

/// The gradient of the decoded features. The weights of the photos' losses follow the sums in the same tensor.
struct LossesGrad {
    points: Points,
    factor: f32,
}

impl CustomOp3 for LossesGrad {
    fn name(&self) -> &'static str {
        "mining-losses-grad"
    }

    fn cpu_fwd(
        &self,
        encoded: &CpuStorage,
        encoded_layout: &Layout,
        decoded: &CpuStorage,
        decoded_layout: &Layout,
        stats: &CpuStorage,
        stats_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (encoded, decoded) = (values(encoded, encoded_layout)?, values(decoded, decoded_layout)?);
        let (stats, Points { first, patches, channels, .. }) = (values(stats, stats_layout)?, self.points);
        let (stats, grad) = stats.split_at(self.points.stats());
        let (of_points, of_photos) = stats.split_at(3 * self.points.count());
        let threshold = stats[stats.len() - 1];
        let mut out = vec![0f32; decoded.len()];
        let rows = out.par_chunks_mut(channels).zip(encoded.par_chunks(channels)).zip(decoded.par_chunks(channels));
        rows.enumerate().for_each(|(token, ((out, encoded), decoded))| {
            let (number, place) = (token / (first + patches), token % (first + patches));
            let Some(place) = place.checked_sub(first) else { return };
            let (point, photo) = (number * patches + place, &of_photos[3 * number..][..3]);
            let easy = distance(&of_points[3 * point..][..3]) < threshold;
            let norms = photo[1].max(1e-16).sqrt() * photo[2].max(1e-16).sqrt();
            let scale = -grad[number] * if easy { self.factor } else { 1.0 } / norms;
            // A clamped norm is a constant.
            let back = if photo[2] < 1e-16 { 0.0 } else { photo[0] / photo[2] };
            for ((out, a), b) in out.iter_mut().zip(encoded).zip(decoded) {
                *out = scale * (a - back * b);
            }
        });
        Ok((CpuStorage::F32(out), decoded_layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        encoded: &CudaStorage,
        encoded_layout: &Layout,
        decoded: &CudaStorage,
        decoded_layout: &Layout,
        stats: &CudaStorage,
        stats_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let inputs = [(encoded, encoded_layout), (decoded, decoded_layout), (stats, stats_layout)];
        let count = decoded_layout.shape().elem_count();
        let out = compute(inputs, [], DType::F32, count, |[encoded, decoded, stats], [], out| {
            let grad = stats + 4 * self.points.stats() as u64;
            [kernels::grad([encoded, decoded, stats, grad, out], self.points, self.factor)]
        })?;
        Ok((out, decoded_layout.shape().clone()))
    }
}
