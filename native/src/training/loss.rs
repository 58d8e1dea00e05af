//! Dinomaly's hard-mining global cosine loss (paper eq. 4 and 5; official `global_cosine_hm_percent`).
//!
//! The value is the mean over groups and photos of one minus the cosine of the flattened feature maps. Hard mining changes only the
//! gradient: it is scaled down at points that are already reconstructed well.

use candle_core::{DType, Result, Tensor, bail};

use crate::training::mining::photo_losses;
use crate::training::replicas::Collective;

/// Hard mining: the share of easy points, and the factor on their gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HardMining {
    /// Share of the batch's points that count as easy, 0..1 (`p` of the official code).
    pub rate: f64,
    /// Factor on the gradient of easy points: those whose distance is strictly below the k-th largest of the batch.
    pub factor: f64,
}

/// A loss and its gradient with respect to the decoder's features.
pub struct Loss {
    /// Mean over groups: a scalar in f32.
    pub value: Tensor,
    /// Gradient of each group, in f32, of the group's shape.
    pub gradients: Vec<Tensor>,
}

/// The loss of the groups' features `encoded[j]` and `decoded[j]`, each `[batch, first + patches, channels]`. The `first` tokens (class
/// and registers) do not count.
///
/// # Errors
/// If shapes differ, or if `rate` leaves no hard point (the official code raises there as well).
pub fn hard_mining_loss(encoded: &[Tensor], decoded: &[Tensor], first: usize, mining: HardMining) -> Result<Loss> {
    loss_of_part(encoded, decoded, first, mining, None)
}

/// A replica's share of a batch's [`hard_mining_loss`]: the sum of all shares is the loss of the batch. All replicas have the same
/// number of photos.
///
/// # Errors
/// As for [`hard_mining_loss`], and if another replica has ended.
pub fn loss_of_part(
    encoded: &[Tensor],
    decoded: &[Tensor],
    first: usize,
    mining: HardMining,
    team: Option<&dyn Collective>,
) -> Result<Loss> {
    let replicas = team.map_or(1, Collective::replicas);
    if encoded.len() != decoded.len() || encoded.is_empty() {
        bail!("{} encoder groups cannot be compared with {} decoder groups", encoded.len(), decoded.len());
    }
    let (mut values, mut gradients) = (Vec::new(), Vec::new());
    let groups = encoded.len();
    for (encoded, decoded) in encoded.iter().zip(decoded) {
        let (photos, tokens, _) = decoded.dims3()?;
        let points = replicas * photos * tokens.saturating_sub(first);
        let hard = hard_points(points, mining.rate);
        if hard == 0 {
            bail!("hard mining at rate {} leaves none of {points} points", mining.rate);
        }
        let single = |x: &Tensor| x.to_dtype(DType::F32)?.contiguous();
        let share = 1.0 / (photos * groups * replicas) as f64;
        let weights = Tensor::full(share as f32, photos, decoded.device())?;
        let (encoded, decoded) = (single(encoded)?, single(decoded)?);
        let (losses, gradient) = photo_losses(&encoded, &decoded, first, &weights, hard, mining.factor as f32, team)?;
        values.push((losses * weights)?);
        gradients.push(gradient);
    }
    Ok(Loss { value: Tensor::cat(&values, 0)?.sum_all()?, gradients })
}

/// Number of hard points among `points` at a rate: `int(points * (1 - rate))` in float64, as in the official code (490 points at
/// 0.9 give 48).
pub fn hard_points(points: usize, rate: f64) -> usize {
    (points as f64 * (1.0 - rate)) as usize
}

#[cfg(test)]
mod tests {
    use candle_core::{D, Device, Var};

    use super::*;

    #[test]
    fn rounds_the_number_of_hard_points_as_float64_does() {
        // 1 - 0.9 is 0.0999…98: 49 would be the exact product.
        assert_eq!(hard_points(490, 0.9), 48);
        assert_eq!(hard_points(12544, 0.0), 12544);
    }

    /// One minus the cosine over the last dimension, in candle's operations.
    fn cosine_distance(a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let norm = |x: &Tensor| x.sqr()?.sum(D::Minus1)?.clamp(1e-16, f64::INFINITY)?.sqrt();
        1.0 - ((a * b)?.sum(D::Minus1)? / (norm(a)? * norm(b)?)?)?
    }

    /// The loss in candle's operations, composed as in the official code.
    fn composed(encoded: &Tensor, decoded: &Tensor, mining: HardMining) -> Tensor {
        let distances = cosine_distance(encoded, &decoded.detach()).unwrap();
        let mut values = distances.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        values.sort_by(|a, b| b.total_cmp(a));
        let threshold = values[hard_points(values.len(), mining.rate) - 1];
        let easy = distances.lt(f64::from(threshold)).unwrap().to_dtype(DType::F32).unwrap();
        let scale = easy.affine(mining.factor - 1.0, 0.0).unwrap().unsqueeze(D::Minus1).unwrap();
        // Zero, with a gradient.
        let zero = (decoded - decoded.detach()).unwrap();
        let decoded = (decoded + zero.broadcast_mul(&scale).unwrap()).unwrap();
        cosine_distance(&encoded.flatten_from(1).unwrap(), &decoded.flatten_from(1).unwrap())
            .unwrap()
            .mean_all()
            .unwrap()
    }

    #[test]
    fn value_and_gradient_are_those_of_the_composed_loss() {
        let random = || Var::randn(0f32, 1f32, (3, 7, 5), &Device::Cpu).unwrap();
        for rate in [0.0, 0.5, 0.9] {
            let (encoded, decoded, mining) = (random(), random(), HardMining { rate, factor: 0.1 });
            let fused = hard_mining_loss(&[encoded.detach()], &[decoded.detach()], 0, mining).unwrap();
            let composed = composed(&encoded.detach(), &decoded, mining);
            let scalar = |t: &Tensor| t.to_scalar::<f32>().unwrap();
            assert!((scalar(&fused.value) - scalar(&composed)).abs() < 1e-6);
            let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let found = flat(&fused.gradients[0]);
            let expected = flat(composed.backward().unwrap().get(&decoded).unwrap());
            let largest = expected.iter().fold(0f32, |largest, v| largest.max(v.abs()));
            for (found, expected) in found.iter().zip(&expected) {
                assert!((found - expected).abs() <= 2e-6 * largest, "{found:e}, expected {expected:e}");
            }
        }
        // Tokens before the patches have no effect.
        let (encoded, decoded, mining) = (random(), random(), HardMining { rate: 0.5, factor: 0.1 });
        let patches = |t: &Tensor| t.narrow(1, 2, 5).unwrap().contiguous().unwrap();
        let all = hard_mining_loss(&[encoded.detach()], &[decoded.detach()], 2, mining).unwrap();
        let alone = hard_mining_loss(&[patches(&encoded)], &[patches(&decoded)], 0, mining).unwrap();
        let numbers = |t: &Tensor| t.to_vec3::<f32>().unwrap();
        assert_eq!(all.value.to_scalar::<f32>().unwrap(), alone.value.to_scalar::<f32>().unwrap());
        for (all, alone) in numbers(&all.gradients[0]).iter().zip(numbers(&alone.gradients[0])) {
            assert_eq!((&all[..2], &all[2..]), (&vec![vec![0.0; 5]; 2][..], &alone[..]));
        }
        let (a, b) = (random(), random());
        let mining = HardMining { rate: 0.99, factor: 0.1 };
        let Err(error) = hard_mining_loss(&[a.detach()], &[b.detach()], 0, mining) else { panic!("no hard point") };
        assert!(error.to_string().contains("leaves none of 21 points"), "{error}");
    }
}
