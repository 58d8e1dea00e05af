//! Dinomaly's hard-mining global cosine loss (paper eq. 4 and 5; official `global_cosine_hm_percent`).
//!
//! The value is the mean over groups and photos of one minus the cosine of the whole flattened feature map. Hard mining
//! does not change the value, only the gradient: at points that are already reconstructed well it is scaled down.

use candle_core::{D, Result, Tensor, bail};

/// How much of the gradient reaches well-reconstructed points.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HardMining {
    /// Share of the batch's points that count as easy, 0..1 (`p` of the official code).
    pub rate: f64,
    /// Factor on the gradient of easy points.
    pub factor: f64,
}

/// Mean loss over groups. `encoded[j]` and `decoded[j]` are a group's patch features `[batch, patches, channels]`
/// (class and register tokens already dropped); gradients flow into `decoded` only.
///
/// # Errors
/// If shapes differ, or if `rate` leaves no hard point (the official code raises there, too).
pub fn hard_mining_loss(encoded: &[Tensor], decoded: &[Tensor], mining: HardMining) -> Result<Tensor> {
    if encoded.len() != decoded.len() || encoded.is_empty() {
        bail!("{} encoder groups cannot be compared with {} decoder groups", encoded.len(), decoded.len());
    }
    let mut total: Option<Tensor> = None;
    for (encoded, decoded) in encoded.iter().zip(decoded) {
        let encoded = encoded.detach();
        let decoded = scale_gradient(decoded, &gradient_scale(&encoded, &decoded.detach(), mining)?)?;
        let loss = (1.0 - global_cosine(&encoded, &decoded)?)?.mean_all()?;
        total = Some(match total {
            Some(total) => (total + loss)?,
            None => loss,
        });
    }
    total.expect("at least one group") / encoded.len() as f64
}

/// One minus the cosine over channels at every point: `[batch, patches]`.
///
/// # Errors
/// If shapes differ.
pub fn point_distance(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    1.0 - cosine(a, b)?
}

/// How many points of `points` are hard at a rate: `int(points * (1 - rate))` in float64, as the official code has it
/// (490 points at 0.9 give 48).
pub fn hard_points(points: usize, rate: f64) -> usize {
    (points as f64 * (1.0 - rate)) as usize
}

/// `[batch, patches, 1]`: the factor where a point's distance is strictly below the k-th largest of the batch, else 1.
fn gradient_scale(encoded: &Tensor, decoded: &Tensor, mining: HardMining) -> Result<Tensor> {
    let distances = point_distance(encoded, decoded)?;
    let mut values = distances.flatten_all()?.to_vec1::<f32>()?;
    let hard = hard_points(values.len(), mining.rate);
    if hard == 0 {
        bail!("hard mining at rate {} leaves none of {} points", mining.rate, values.len());
    }
    let (_, &mut threshold, _) = values.select_nth_unstable_by(hard - 1, |a, b| b.total_cmp(a));
    let easy = distances.lt(f64::from(threshold))?.to_dtype(distances.dtype())?;
    easy.affine(mining.factor - 1.0, 1.0)?.unsqueeze(D::Minus1)
}

/// The same values (exactly), with the gradient multiplied by `scale`.
fn scale_gradient(x: &Tensor, scale: &Tensor) -> Result<Tensor> {
    let zero = (x - x.detach())?;
    x + zero.broadcast_mul(&(scale - 1.0)?)?
}

/// Cosine of whole photos: `[batch, …]` → `[batch]`.
fn global_cosine(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    cosine(&a.flatten_from(1)?, &b.flatten_from(1)?)
}

/// Cosine over the last dimension, each norm clamped at 1e-8 (`torch.cosine_similarity`).
fn cosine(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let norm = |x: &Tensor| x.sqr()?.sum(D::Minus1)?.clamp(1e-16, f64::INFINITY)?.sqrt();
    (a * b)?.sum(D::Minus1)? / (norm(a)? * norm(b)?)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_the_number_of_hard_points_as_float64_does() {
        // 1 - 0.9 is 0.0999…98: 49 would be the exact product.
        assert_eq!(hard_points(490, 0.9), 48);
        assert_eq!(hard_points(12544, 0.0), 12544);
    }
}
