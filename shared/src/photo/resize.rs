//! Antialiased bilinear resize of 8-bit pictures: as Pillow does it, byte for byte, and as torch does it, without rounding.
//!
//! `ImagingResample` of Pillow 11: triangle filter as wide as the reduction, weights rounded to 22 bits, rows first, then
//! columns, the intermediate picture rounded to bytes. (Pillow 13 sometimes resizes columns first: differences of 1:
//! findings/pillow-resize-order.sh.) torch's `interpolate(antialias=True)` of a float tensor has the same filter and rounds nothing.

use std::ops::Range;

/// Fractional bits of a weight: 32, less 8 for the sample and 2 that Pillow reserves for overshooting filters.
const PRECISION: u32 = 32 - 8 - 2;

/// One half, added before truncation in order to round.
const HALF: i32 = 1 << (PRECISION - 1);

/// Source samples of one target sample, and their weights.
struct Window<W> {
    start: usize,
    weights: Vec<W>,
}

/// Resizes a picture of `C` interleaved channels from `(width, height)` to `(width, height)`; the aspect ratio may change.
///
/// # Panics
/// If `pixels` does not hold `width · height · C` bytes, or a side is 0.
pub fn resize<const C: usize>(pixels: &[u8], from: (usize, usize), to: (usize, usize)) -> Vec<u8> {
    resize_part::<C>(pixels, from, to, 0..to.0, 0..to.1)
}

/// These columns and rows of the result of [`resize`], without the others: in memory lies no more than what they are made of.
///
/// # Panics
/// As [`resize`], and if the part is empty or not within the result.
pub fn resize_part<const C: usize>(
    pixels: &[u8],
    from: (usize, usize),
    to: (usize, usize),
    columns: Range<usize>,
    rows: Range<usize>,
) -> Vec<u8> {
    assert_eq!(pixels.len(), from.0 * from.1 * C, "a picture of {}x{} pixels of {C} bytes", from.0, from.1);
    // Not by the product of sides, which may overflow the 32 bits of wasm.
    assert!([from.0, from.1, to.0, to.1].iter().all(|&side| side > 0), "cannot resize {from:?} to {to:?}");
    let part = "an empty part, or one beyond the picture";
    assert!(!columns.is_empty() && columns.end <= to.0 && !rows.is_empty() && rows.end <= to.1, "{part}");
    let down = rounded(windows(from.1, to.1, rows.clone()));
    let Range { start: first, end: last } = covered(&down);
    let source = &pixels[first * from.0 * C..last * from.0 * C];
    // A pass that changes nothing is skipped: its weights are exactly 1.
    let narrowed = if from.0 == to.0 && columns.len() == to.0 {
        source.to_vec()
    } else {
        horizontal::<C>(source, from.0, &rounded(windows(from.0, to.0, columns.clone())))
    };
    if from.1 == to.1 && rows.len() == to.1 { narrowed } else { vertical(&narrowed, columns.len() * C, first, &down) }
}

/// These columns and rows of a resized picture of `C` interleaved channels, in the scale of its bytes and not rounded to bytes.
///
/// # Panics
/// As [`resize_part`].
pub fn resize_part_unrounded<const C: usize>(
    pixels: &[u8],
    from: (usize, usize),
    to: (usize, usize),
    columns: Range<usize>,
    rows: Range<usize>,
) -> Vec<f32> {
    assert_eq!(pixels.len(), from.0 * from.1 * C, "a picture of {}x{} pixels of {C} bytes", from.0, from.1);
    let (across, down) = (windows(from.0, to.0, columns), windows(from.1, to.1, rows));
    let Range { start: first, end: last } = covered(&down);
    let mut narrowed: Vec<[f32; C]> = Vec::with_capacity((last - first) * across.len());
    for row in pixels[first * from.0 * C..last * from.0 * C].chunks_exact(from.0 * C) {
        narrowed.extend(across.iter().map(|window| {
            let mut sums = [0.0; C];
            for (pixel, &weight) in row[window.start * C..].chunks_exact(C).zip(&window.weights) {
                sums.iter_mut().zip(pixel).for_each(|(sum, &sample)| *sum += f32::from(sample) * weight as f32);
            }
            sums
        }));
    }
    let narrowed = narrowed.as_flattened();
    let stride = across.len() * C;
    let mut out = Vec::with_capacity(stride * down.len());
    for window in &down {
        let mut sums = vec![0.0; stride];
        for (row, &weight) in narrowed[(window.start - first) * stride..].chunks_exact(stride).zip(&window.weights) {
            sums.iter_mut().zip(row).for_each(|(sum, &sample)| *sum += sample * weight as f32);
        }
        out.extend(sums);
    }
    out
}

/// Samples that windows of ascending start take.
fn covered<W>(windows: &[Window<W>]) -> Range<usize> {
    let first = windows[0].start;
    first..windows.iter().map(|window| window.start + window.weights.len()).fold(first, usize::max)
}

/// Weights in units of [`PRECISION`] (`normalize_coeffs_8bpc`).
fn rounded(windows: Vec<Window<f64>>) -> Vec<Window<i32>> {
    let round = |weight: f64| (0.5 + weight * f64::from(1 << PRECISION)) as i32;
    let window =
        |Window { start, weights }: Window<f64>| Window { start, weights: weights.into_iter().map(round).collect() };
    windows.into_iter().map(window).collect()
}

/// Weights of a part of one axis, which sum to 1 (`precompute_coeffs`).
fn windows(from: usize, to: usize, part: Range<usize>) -> Vec<Window<f64>> {
    let scale = from as f64 / to as f64;
    let support = scale.max(1.0);
    let inverse = 1.0 / support;
    part.map(|i| {
        let centre = (i as f64 + 0.5) * scale;
        let start = (centre - support + 0.5).max(0.0) as usize;
        let end = ((centre + support + 0.5) as usize).min(from);
        let triangle: Vec<f64> =
            (start..end).map(|x| (1.0 - ((x as f64 - centre + 0.5) * inverse).abs()).max(0.0)).collect();
        let sum: f64 = triangle.iter().sum();
        Window { start, weights: triangle.iter().map(|w| w / sum).collect() }
    })
    .collect()
}

fn to_byte(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

fn horizontal<const C: usize>(pixels: &[u8], from: usize, windows: &[Window<i32>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(pixels.len() / from * windows.len());
    for row in pixels.chunks_exact(from * C) {
        for window in windows {
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

/// `pixels` begin with the row `first`.
fn vertical(pixels: &[u8], stride: usize, first: usize, windows: &[Window<i32>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(stride * windows.len());
    let mut sums = vec![0; stride];
    for window in windows {
        sums.fill(HALF);
        for (row, weight) in pixels[(window.start - first) * stride..].chunks_exact(stride).zip(&window.weights) {
            for (sum, &sample) in sums.iter_mut().zip(row) {
                *sum += i32::from(sample) * weight;
            }
        }
        out.extend(sums.iter().map(|&sum| to_byte(sum)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{PRECISION, resize, resize_part, resize_part_unrounded, rounded, windows};

    #[test]
    fn an_equal_size_changes_nothing() {
        let pixels: Vec<u8> = (0..7 * 5 * 3).map(|i| (i * 37 % 256) as u8).collect();
        assert_eq!(resize::<3>(&pixels, (7, 5), (7, 5)), pixels);
    }

    #[test]
    fn a_part_is_that_of_the_whole() {
        let pixels: Vec<u8> = (0..23 * 17 * 3).map(|i| (i * i % 256) as u8).collect();
        for to in [(23, 17), (9, 40), (40, 9), (23, 5), (5, 17)] {
            let whole = resize::<3>(&pixels, (23, 17), to);
            for (columns, rows) in [(0..to.0, 1..4), (2..5, 0..to.1), (to.0 - 1..to.0, 3..5), (1..4, to.1 - 2..to.1)] {
                let expected: Vec<u8> = rows
                    .clone()
                    .flat_map(|y| &whole[3 * (y * to.0 + columns.start)..][..3 * columns.len()])
                    .copied()
                    .collect();
                assert_eq!(
                    resize_part::<3>(&pixels, (23, 17), to, columns.clone(), rows.clone()),
                    expected,
                    "{to:?} {columns:?} {rows:?}"
                );
            }
        }
    }

    #[test]
    fn halves_and_doubles_as_pillow_does() {
        // Image.frombytes("L", (4, 1), bytes([0, 100, 200, 255])).resize((2, 1), 2), and to (8, 1)
        assert_eq!(resize::<1>(&[0, 100, 200, 255], (4, 1), (2, 1)), HALVED);
        assert_eq!(resize::<1>(&[0, 100, 200, 255], (4, 1), (8, 1)), DOUBLED);
        // The same along a column.
        assert_eq!(resize::<1>(&[0, 100, 200, 255], (1, 4), (1, 2)), HALVED);
        assert_eq!(resize::<1>(&[0, 100, 200, 255], (1, 4), (1, 8)), DOUBLED);
    }

    #[test]
    fn without_rounding_it_is_torchs_resize_of_floats() {
        // torch.nn.functional.interpolate(x, size, mode="bilinear", antialias=True) of float32, along a row and along a column
        let of = |from, to: (usize, usize)| resize_part_unrounded::<1>(&[0, 100, 200, 255], from, to, 0..to.0, 0..to.1);
        let (halved, doubled) = ([71.428_57, 209.285_7], [0.0, 25.0, 75.0, 125.0, 175.0, 213.75, 241.25, 255.0]);
        for (to, expected) in [(2, &halved[..]), (8, &doubled), (4, &[0.0, 100.0, 200.0, 255.0])] {
            for found in [of((4, 1), (to, 1)), of((1, 4), (1, to))] {
                assert!(found.iter().zip(expected).all(|(v, e)| (v - e).abs() < 1e-4), "{found:?}");
            }
        }
    }

    #[test]
    fn rounding_changes_a_resized_value_by_no_more_than_one() {
        let pixels: Vec<u8> = (0..23 * 17 * 3).map(|i| (i * i % 256) as u8).collect();
        for to in [(23, 17), (9, 40), (40, 9), (6, 5)] {
            let (columns, rows) = (1..to.0 - 1, 2..to.1);
            let bytes = resize_part::<3>(&pixels, (23, 17), to, columns.clone(), rows.clone());
            let floats = resize_part_unrounded::<3>(&pixels, (23, 17), to, columns, rows);
            assert_eq!(bytes.len(), floats.len());
            for (byte, float) in bytes.into_iter().zip(floats) {
                // Half a step for each pass.
                assert!((f32::from(byte) - float).abs() < 1.01, "{byte}, {float}");
            }
        }
    }

    const HALVED: [u8; 2] = [71, 209];
    const DOUBLED: [u8; 8] = [0, 25, 75, 125, 175, 214, 241, 255];

    #[test]
    fn one_pixel_fills_the_square() {
        assert_eq!(resize::<3>(&[3, 200, 255], (1, 1), (4, 2)), [3, 200, 255].repeat(8));
    }

    #[test]
    fn white_stays_white_at_any_reduction() {
        for from in [3, 47, 100, 999, 20_000] {
            assert!(resize::<1>(&vec![255; from], (from, 1), (10, 1)).iter().all(|&v| v == 255), "{from} to 10");
        }
    }

    #[test]
    fn windows_stay_inside_and_weigh_one() {
        for (from, to) in [(1, 448), (448, 447), (4000, 448), (65_535, 3), (2, 3)] {
            for window in rounded(windows(from, to, 0..to)) {
                assert!(!window.weights.is_empty() && window.start + window.weights.len() <= from, "{from} to {to}");
                let sum: i64 = window.weights.iter().map(|&w| i64::from(w)).sum();
                let rounding = window.weights.len() as i64 / 2 + 1;
                assert!((sum - (1 << PRECISION)).abs() <= rounding, "{from} to {to}: weights sum to {sum}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "a picture of 2x2 pixels of 3 bytes")]
    fn a_buffer_of_another_size_is_refused() {
        resize::<3>(&[0; 11], (2, 2), (1, 1));
    }
}
