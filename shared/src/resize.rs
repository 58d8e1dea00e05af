//! Pillow's antialiased bilinear resize of 8-bit pictures, byte for byte.
//!
//! `ImagingResample` of Pillow 11: a triangle filter as wide as the reduction, weights rounded to 22 bits, rows first,
//! the intermediate picture rounded to bytes, then columns. (Pillow 13 sometimes does columns first: differences of 1.)

/// Bits after the point of a weight: 32, less 8 of the sample and 2 that Pillow reserves for overshooting filters.
const PRECISION: u32 = 32 - 8 - 2;

/// Rounds instead of truncating.
const HALF: i32 = 1 << (PRECISION - 1);

/// The source samples of one target sample, and their weights.
struct Window {
    start: usize,
    weights: Vec<i32>,
}

/// Resizes a picture of `C` interleaved channels from `(width, height)` to `(width, height)`; the aspect ratio is free.
///
/// # Panics
/// If `pixels` does not hold `width · height · C` bytes, or a side is 0.
pub fn resize<const C: usize>(pixels: &[u8], from: (usize, usize), to: (usize, usize)) -> Vec<u8> {
    assert_eq!(pixels.len(), from.0 * from.1 * C, "a picture of {}x{} pixels of {C} bytes", from.0, from.1);
    assert!(from.0 * from.1 * to.0 * to.1 > 0, "cannot resize {from:?} to {to:?}");
    // A pass that changes nothing is skipped; its weights would be exactly 1 anyway.
    let columns = if from.0 == to.0 { pixels.to_vec() } else { horizontal::<C>(pixels, from.0, to.0) };
    if from.1 == to.1 { columns } else { vertical(&columns, to.0 * C, to.1) }
}

/// Weights along one axis (`precompute_coeffs` and `normalize_coeffs_8bpc`).
fn windows(from: usize, to: usize) -> Vec<Window> {
    let scale = from as f64 / to as f64;
    let support = scale.max(1.0);
    let inverse = 1.0 / support;
    (0..to)
        .map(|i| {
            let centre = (i as f64 + 0.5) * scale;
            let start = (centre - support + 0.5).max(0.0) as usize;
            let end = ((centre + support + 0.5) as usize).min(from);
            let triangle: Vec<f64> =
                (start..end).map(|x| (1.0 - ((x as f64 - centre + 0.5) * inverse).abs()).max(0.0)).collect();
            let sum: f64 = triangle.iter().sum();
            let weights = triangle.iter().map(|w| (0.5 + w / sum * f64::from(1 << PRECISION)) as i32).collect();
            Window { start, weights }
        })
        .collect()
}

fn to_byte(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

fn horizontal<const C: usize>(pixels: &[u8], from: usize, to: usize) -> Vec<u8> {
    let windows = windows(from, to);
    let mut out = Vec::with_capacity(pixels.len() / from * to);
    for row in pixels.chunks_exact(from * C) {
        for window in &windows {
            let mut sums = [HALF; C];
            for (pixel, weight) in row[window.start * C..].chunks_exact(C).zip(&window.weights) {
                for (sum, &sample) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(sample) * weight;
                }
            }
            out.extend(sums.map(to_byte));
        }
    }
    out
}

fn vertical(pixels: &[u8], stride: usize, to: usize) -> Vec<u8> {
    let windows = windows(pixels.len() / stride, to);
    let mut out = Vec::with_capacity(stride * to);
    let mut sums = vec![0; stride];
    for window in &windows {
        sums.fill(HALF);
        for (row, weight) in pixels[window.start * stride..].chunks_exact(stride).zip(&window.weights) {
            for (sum, &sample) in sums.iter_mut().zip(row) {
                *sum += i32::from(sample) * weight;
            }
        }
        out.extend(sums.iter().map(|&sum| to_byte(sum)));
    }
    out
}
