//! Noise of the bottleneck: dropout, feature jitter and patch masking. It depends only on the run's seed and the iteration, so that a
//! resumed run repeats it exactly.

#[cfg(feature = "cuda")]
use candle_core::CudaStorage;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, D, Error, Layout, Result, Shape, Tensor};
use dinomaly_core::executors::candle::fused::{in_blocks, stored, values};
use dinomaly_core::executors::candle::kernels::dropout::Mask;
#[cfg(feature = "cuda")]
use dinomaly_core::executors::candle::kernels::{Element, device::compute, dropout::dropout};
use dinomaly_core::model::config::{MaskedShare, ModelConfig};
use dinomaly_core::ops::NoiseAt;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::training::head::standard_normal;

/// All noise of one training step on a batch, or on a part of it.
pub struct BottleneckNoise {
    dropout: Dropout,
    /// Dropout of the input: none if the bottleneck narrows it (Dinomaly2).
    at_input: bool,
    jitter: Jitter,
    masking: Masking,
    /// Number of parts of the same size before this one in the batch.
    parts_before: usize,
}

impl BottleneckNoise {
    /// The noise of an iteration in the run with this seed.
    pub fn new(config: &ModelConfig, seed: u64, iteration: usize) -> Self {
        Self {
            dropout: Dropout::new(config.bottleneck_dropout, seed, iteration),
            at_input: config.bottleneck_width.is_none(),
            jitter: Jitter { scale: config.feature_jitter, seed, iteration: iteration as u64 },
            masking: Masking {
                rate: config.patch_masking,
                share: config.masked_share,
                prefix: config.kept_prefix_tokens(),
                seed,
                iteration: iteration as u64,
            },
            parts_before: 0,
        }
    }

    /// The noise of one of several parts of equal size: that of the whole batch at this place.
    pub fn of_part(self, parts_before: usize) -> Self {
        Self { parts_before, ..self }
    }

    /// Applies the noise of a place in the bottleneck.
    ///
    /// # Errors
    /// If the device fails.
    pub fn apply(&self, x: &Tensor, at: NoiseAt) -> Result<Tensor> {
        let (photos, first) = (self.parts_before * x.dim(0)?, self.parts_before * x.elem_count());
        match at {
            NoiseAt::Input => {
                let x = self.masking.apply(&self.jitter.apply(x, first)?, photos)?;
                if self.at_input { self.dropout.apply_from(&x, at, first) } else { Ok(x) }
            }
            NoiseAt::Narrowed | NoiseAt::Hidden | NoiseAt::Output => self.dropout.apply_from(x, at, first),
        }
    }
}

/// Gaussian noise on the bottleneck's input (feature jitter of UniAD, You et al. 2022).
struct Jitter {
    scale: f64,
    seed: u64,
    iteration: u64,
}

impl Jitter {
    /// `first` is the number of values in the batch before those of `x`.
    fn apply(&self, x: &Tensor, first: usize) -> Result<Tensor> {
        if self.scale == 0.0 {
            return Ok(x.clone());
        }
        let mut generator = ChaCha8Rng::seed_from_u64(self.seed);
        // The fourth stream of a step; dropout has the first three.
        generator.set_stream(1 + self.iteration * 4 + 3);
        // A value takes two numbers of two words each.
        generator.set_word_pos(4 * first as u128);
        let values: Vec<f32> = (0..x.elem_count()).map(|_| standard_normal(&mut generator)).collect();
        jittered(x, &Tensor::from_vec(values, x.dims(), x.device())?, self.scale)
    }
}

/// Patch masking: tokens of masked patches become zero; class and register tokens stay.
struct Masking {
    rate: f64,
    share: MaskedShare,
    /// Tokens before the first patch.
    prefix: usize,
    seed: u64,
    iteration: u64,
}

impl Masking {
    /// `photos` is the number of photos in the batch before those of `x`.
    fn apply(&self, x: &Tensor, photos: usize) -> Result<Tensor> {
        if self.rate == 0.0 {
            return Ok(x.clone());
        }
        let mut generator = ChaCha8Rng::seed_from_u64(self.seed);
        // The upper half of the streams; dropout and jitter have the lower half.
        generator.set_stream(1 << 63 | self.iteration);
        let (batch, tokens, _) = x.dims3()?;
        let patches = tokens - self.prefix;
        generator.set_word_pos((photos * patches) as u128);
        let mut mask = Vec::with_capacity(batch * tokens);
        for _ in 0..batch {
            let drawn: Vec<u32> = (0..patches).map(|_| generator.next_u32()).collect();
            mask.extend(std::iter::repeat_n(1f32, self.prefix));
            mask.extend(self.kept(&drawn).into_iter().map(|kept| f32::from(u8::from(kept))));
        }
        x.broadcast_mul(&Tensor::from_vec(mask, (batch, tokens, 1), x.device())?)
    }
}

impl Masking {
    /// Which patches of a photo are kept, by a number that was drawn for each.
    fn kept(&self, drawn: &[u32]) -> Vec<bool> {
        match self.share {
            MaskedShare::Drawn => {
                let limit = (self.rate * f64::from(u32::MAX)) as u32;
                drawn.iter().map(|&number| number >= limit).collect()
            }
            MaskedShare::Exact => {
                let masked = (self.rate * drawn.len() as f64).round() as usize;
                let mut order: Vec<usize> = (0..drawn.len()).collect();
                order.sort_by_key(|&patch| (drawn[patch], patch));
                let mut kept = vec![true; drawn.len()];
                order[..masked].iter().for_each(|&patch| kept[patch] = false);
                kept
            }
        }
    }
}

/// `x + noise · scale · |token| / channels`, with `x [batch, tokens, channels]` and standard normal `noise` (official `FeatureJitter`).
///
/// # Errors
/// If shapes differ.
pub fn jittered(x: &Tensor, noise: &Tensor, scale: f64) -> Result<Tensor> {
    let norms = x.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
    x + noise.broadcast_mul(&(norms * (scale / x.dim(D::Minus1)? as f64))?)?
}

/// Dropout masks of one training step.
pub struct Dropout {
    rate: f64,
    seed: u64,
    iteration: u64,
}

impl Dropout {
    /// The masks of an iteration in the run with this seed.
    pub fn new(rate: f64, seed: u64, iteration: usize) -> Self {
        Self { rate, seed, iteration: iteration as u64 }
    }

    /// Zeroes a share of `rate` of the values and scales the others by `1 / (1 - rate)`.
    ///
    /// # Errors
    /// If the device fails.
    pub fn apply(&self, x: &Tensor, at: NoiseAt) -> Result<Tensor> {
        self.apply_from(x, at, 0)
    }

    /// [`Dropout::apply`] for a part of the batch that starts after its `first` values.
    fn apply_from(&self, x: &Tensor, at: NoiseAt, first: usize) -> Result<Tensor> {
        if self.rate == 0.0 {
            return Ok(x.clone());
        }
        with_mask(x, Mask { first: first as u64, ..self.mask(at) })
    }

    /// The mask of the part, cut from that of the whole batch.
    pub fn mask(&self, at: NoiseAt) -> Mask {
        let place = match at {
            // Never both: a bottleneck that narrows its input does not drop of it.
            NoiseAt::Input | NoiseAt::Narrowed => 0,
            NoiseAt::Hidden => 1,
            NoiseAt::Output => 2,
        };
        Mask {
            seed: ChaCha8Rng::seed_from_u64(self.seed).get_seed(),
            // Four streams per step, of which the last is for jitter.
            stream: 1 + self.iteration * 4 + place,
            first: 0,
            limit: (self.rate * f64::from(u32::MAX)) as u32,
            kept: (1.0 / (1.0 - self.rate)) as f32,
        }
    }
}

/// `x` with a mask applied; differentiable. The mask is not stored: the gradient draws it again.
///
/// # Errors
/// If the device fails.
pub fn with_mask(x: &Tensor, mask: Mask) -> Result<Tensor> {
    x.contiguous()?.apply_op1(Drop { mask })
}

struct Drop {
    mask: Mask,
}

impl CustomOp1 for Drop {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        // Values of a task. Each begins at its place in the stream, so that the mask does not depend on their size.
        const BLOCK: usize = 1 << 14;
        let Mask { seed, stream, first, limit, kept } = self.mask;
        let x_ = values(x, layout)?;
        let ([out], _) = in_blocks(x_.len(), BLOCK, [1], |i, [out]| {
            let mut generator = ChaCha8Rng::from_seed(seed);
            generator.set_stream(stream);
            generator.set_word_pos(u128::from(first) + (i * BLOCK) as u128);
            for (out, x) in out.iter_mut().zip(&x_[i * BLOCK..]) {
                *out = x * if generator.next_u32() < limit { 0.0 } else { kept };
            }
            Ok::<_, Error>(())
        })?;
        Ok((stored(out, x.dtype())?, layout.shape().clone()))
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let (count, element) = (layout.shape().elem_count(), Element::of(x.dtype())?);
        let out = compute([(x, layout)], [], x.dtype(), count, |[x], [], out| {
            [dropout(element, [x, out], count, &self.mask)]
        })?;
        Ok((out, layout.shape().clone()))
    }

    fn bwd(&self, _x: &Tensor, res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(grad.to_dtype(res.dtype())?.contiguous()?.apply_op1_no_bwd(self)?))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};
    use dinomaly_core::model::config::EncoderConfig;

    use super::*;

    #[test]
    fn the_gradient_is_dropped_where_the_value_is() {
        let x = Var::ones(200, candle_core::DType::F32, &Device::Cpu).unwrap();
        let y = Dropout::new(0.4, 3, 1).apply(&x, NoiseAt::Hidden).unwrap();
        let gradients = (&y * 2.0).unwrap().sum_all().unwrap().backward().unwrap();
        let expected = (&y * 2.0).unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(gradients.get(&x).unwrap().to_vec1::<f32>().unwrap(), expected);
        assert!(expected.contains(&0.0) && expected.iter().any(|&v| v > 2.0));
    }

    #[test]
    fn keeps_the_expected_share_and_the_mean() {
        let ones = Tensor::ones((100, 1000), candle_core::DType::F32, &Device::Cpu).unwrap();
        let values = Dropout::new(0.2, 1, 3)
            .apply(&ones, NoiseAt::Hidden)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1::<f32>()
            .unwrap();
        let dropped = values.iter().filter(|&&v| v == 0.0).count() as f64 / values.len() as f64;
        // 100,000 draws: standard deviation 0.0013.
        assert!((dropped - 0.2).abs() < 0.007, "{dropped}");
        assert!(values.iter().all(|&v| v == 0.0 || (v - 1.25).abs() < 1e-6));
    }

    #[test]
    fn jitter_has_the_size_of_its_token_and_repeats_for_the_same_step() {
        let x = Tensor::new(&[[[3f32; 4000], [0.3; 4000]]], &Device::Cpu).unwrap();
        let jitter = |iteration| Jitter { scale: 2.0, seed: 5, iteration }.apply(&x, 0).unwrap();
        let added = (jitter(1) - &x).unwrap().to_vec3::<f32>().unwrap();
        for (row, value) in added[0].iter().zip([3.0, 0.3]) {
            let spread = (row.iter().map(|v| v * v).sum::<f32>() / 4000.0).sqrt();
            // The norm of 4,000 equal values over 4,000 channels, twice; 4,000 draws estimate it within 1.2 %.
            let expected = 2.0 * value / 4000f32.sqrt();
            assert!((spread / expected - 1.0).abs() < 0.05, "{spread}, expected {expected}");
        }
        let values = |x: Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(values(jitter(1)), values(jitter(1)));
        assert_ne!(values(jitter(1)), values(jitter(2)));
    }

    #[test]
    fn whole_patches_are_masked_and_nothing_else() {
        let x = Tensor::ones((4, 1002, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        let masked = |iteration| {
            let masking = Masking { rate: 0.4, share: MaskedShare::Drawn, prefix: 2, seed: 5, iteration };
            masking.apply(&x, 0).unwrap().to_vec3::<f32>().unwrap().concat()
        };
        let tokens = masked(1);
        assert!(tokens.iter().all(|token| token[0] == token[1] && token[1] == token[2]));
        assert!(tokens.chunks(1002).all(|photo| photo[0][0] == 1.0 && photo[1][0] == 1.0));
        let share = tokens.iter().filter(|token| token[0] == 0.0).count() as f64 / 4000.0;
        // 4,000 draws: standard deviation 0.008.
        assert!((share - 0.4).abs() < 0.03, "{share}");
        assert_eq!(tokens, masked(1));
        assert_ne!(tokens, masked(2));
    }

    #[test]
    fn an_exact_share_masks_as_many_patches_of_each_photo() {
        let x = Tensor::ones((6, 52, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        let masking = |iteration| Masking { rate: 0.3, share: MaskedShare::Exact, prefix: 2, seed: 5, iteration };
        let masked = |iteration| masking(iteration).apply(&x, 0).unwrap().to_vec3::<f32>().unwrap();
        let photos = masked(1);
        for photo in &photos {
            assert!(photo[0][0] == 1.0 && photo[1][0] == 1.0);
            assert_eq!(photo.iter().filter(|token| token[0] == 0.0).count(), 15);
        }
        assert!(photos[0] != photos[1] && photos != masked(2));
        let part = masking(1).apply(&x.narrow(0, 0, 2).unwrap(), 4).unwrap().to_vec3::<f32>().unwrap();
        assert_eq!(part, photos[4..]);
    }

    #[test]
    fn a_part_of_a_batch_has_the_noise_of_its_place() {
        let published = ModelConfig::published(EncoderConfig::tiny()).unwrap();
        // Parts that begin and end within a block of ChaCha: 5 tokens of 3 channels, two photos each.
        let x = Tensor::randn(0f32, 1f32, (6, 5, 3), &Device::Cpu).unwrap();
        let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (dropout, jitter, masking) in [(0.4, 0.0, 0.0), (0.0, 2.0, 0.0), (0.0, 0.0, 0.4), (0.2, 1.0, 0.3)] {
            let config = ModelConfig {
                bottleneck_dropout: dropout,
                feature_jitter: jitter,
                patch_masking: masking,
                ..published.clone()
            };
            let places = [NoiseAt::Input, NoiseAt::Hidden, NoiseAt::Output];
            let whole = BottleneckNoise::new(&config, 3, 7);
            let whole = places.map(|at| whole.apply(&x, at).unwrap());
            for part in 0..3 {
                let noise = BottleneckNoise::new(&config, 3, 7).of_part(part);
                for (at, whole) in places.into_iter().zip(&whole) {
                    let found = noise.apply(&x.narrow(0, 2 * part, 2).unwrap(), at).unwrap();
                    let expected = whole.narrow(0, 2 * part, 2).unwrap();
                    assert_eq!(values(&found), values(&expected), "{dropout} {jitter} {masking} part {part}");
                }
            }
            assert_ne!(values(&whole[0]), values(&x));
        }
    }

    #[test]
    fn a_bottleneck_that_narrows_its_input_drops_after_that() {
        let x = Tensor::ones((2, 5, 4), candle_core::DType::F32, &Device::Cpu).unwrap();
        let mut config =
            ModelConfig { bottleneck_dropout: 0.4, ..ModelConfig::published(EncoderConfig::tiny()).unwrap() };
        let drops = |config: &ModelConfig, at| {
            let noise = BottleneckNoise::new(config, 3, 7).apply(&x, at).unwrap();
            noise.flatten_all().unwrap().to_vec1::<f32>().unwrap().contains(&0.0)
        };
        assert!(drops(&config, NoiseAt::Input));
        config.bottleneck_width = Some(3);
        assert!(!drops(&config, NoiseAt::Input));
        assert!([NoiseAt::Narrowed, NoiseAt::Hidden, NoiseAt::Output].into_iter().all(|at| drops(&config, at)));
    }

    #[test]
    fn differs_between_places_and_iterations_and_repeats_for_the_same() {
        let x = Tensor::ones(64, candle_core::DType::F32, &Device::Cpu).unwrap();
        let draw = |iteration, at| Dropout::new(0.5, 1, iteration).apply(&x, at).unwrap().to_vec1::<f32>().unwrap();
        let places = [NoiseAt::Input, NoiseAt::Hidden, NoiseAt::Output];
        let drawn: Vec<Vec<f32>> = (0..2).flat_map(|iteration| places.map(|at| draw(iteration, at))).collect();
        assert!((0..6).all(|i| !drawn[..i].contains(&drawn[i])));
        assert_eq!(draw(1, NoiseAt::Hidden), drawn[4]);
    }
}
