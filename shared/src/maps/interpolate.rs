//! Bilinear interpolation, as torch does it.

/// Bilinear resize `[from, from]` → `[to, to]` between corner pixels (torch: `align_corners=True`).
pub fn upsample_align_corners(values: &[f32], from: usize, to: usize) -> Vec<f32> {
    interpolate(values, from, &aligned_taps(from, to))
}

/// Bilinear resize `[from, from]` → `[to, to]` between pixel centres, not antialiased (torch: `align_corners=False`).
pub fn resize_bilinear(values: &[f32], from: usize, to: usize) -> Vec<f32> {
    interpolate(values, from, &centred_taps(from, to))
}

/// Position of an interpolated pixel between two source pixels.
pub(super) struct Tap {
    first: usize,
    second: usize,
    /// Weight of the second.
    weight: f32,
}

pub(super) fn aligned_taps(from: usize, to: usize) -> Vec<Tap> {
    let scale = if to > 1 { (from - 1) as f32 / (to - 1) as f32 } else { 0.0 };
    taps(from, to, |i| i * scale)
}

pub(super) fn centred_taps(from: usize, to: usize) -> Vec<Tap> {
    let scale = from as f32 / to as f32;
    taps(from, to, |i| ((i + 0.5) * scale - 0.5).max(0.0))
}

/// One tap for each of `to` pixels. `source` returns a pixel's position among the `from` ones, in f32 as in torch.
fn taps(from: usize, to: usize, source: impl Fn(f32) -> f32) -> Vec<Tap> {
    let tap = |i| {
        let at = source(i as f32);
        let first = (at as usize).min(from - 1);
        Tap { first, second: (first + 1).min(from - 1), weight: (at - first as f32).clamp(0.0, 1.0) }
    };
    (0..to).map(tap).collect()
}

/// Applies the same taps to the rows of `[side, side]`, then to its columns.
fn interpolate(values: &[f32], side: usize, taps: &[Tap]) -> Vec<f32> {
    interpolate_columns(&interpolate_rows(values, side, taps), taps.len(), taps)
}

/// Applies taps to the rows of `[height, width]`.
fn interpolate_rows(values: &[f32], width: usize, taps: &[Tap]) -> Vec<f32> {
    values
        .chunks_exact(width)
        .flat_map(|row| taps.iter().map(move |t| blend(row[t.first], row[t.second], t.weight)))
        .collect()
}

/// Applies taps to the columns of `[height, width]`.
pub(super) fn interpolate_columns(values: &[f32], width: usize, taps: &[Tap]) -> Vec<f32> {
    let row = |y: usize| &values[y * width..][..width];
    taps.iter()
        .flat_map(|t| row(t.first).iter().zip(row(t.second)).map(move |(&a, &b)| blend(a, b, t.weight)))
        .collect()
}

fn blend(a: f32, b: f32, weight: f32) -> f32 {
    a * (1.0 - weight) + b * weight
}

/// Patches `[rows, columns]` → the pixels of the model's input, as [`upsample_align_corners`] → the map, as [`resize_bilinear`]; each of
/// the last two as height and width. Of the large picture between them only two rows are in memory.
pub(super) fn enlarge(patches: &[f32], [rows, columns]: [usize; 2], pixels: [usize; 2], map: [usize; 2]) -> Vec<f32> {
    let wide = interpolate_rows(patches, columns, &aligned_taps(columns, pixels[1]));
    let [down, across] = [centred_taps(pixels[0], map[0]), centred_taps(pixels[1], map[1])];
    let upsampled = aligned_taps(rows, pixels[0]);
    let row = |y: usize| {
        let tall = interpolate_columns(&wide, pixels[1], std::slice::from_ref(&upsampled[y]));
        interpolate_rows(&tall, pixels[1], &across)
    };
    let mut values = Vec::with_capacity(map[0] * map[1]);
    for tap in &down {
        let (first, second) = (row(tap.first), row(tap.second));
        values.extend(first.iter().zip(&second).map(|(&a, &b)| blend(a, b, tap.weight)));
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corners_stay_where_they_are_when_aligned() {
        let up = upsample_align_corners(&[1.0, 2.0, 3.0, 5.0], 2, 5);
        assert_eq!([up[0], up[4], up[20], up[24]], [1.0, 2.0, 3.0, 5.0]);
        assert_eq!(up[12], 2.75, "the middle is the mean of the corners");
    }

    #[test]
    fn pixel_centres_are_kept_when_resizing() {
        let halved: Vec<f32> = resize_bilinear(&(0..16).map(|v| v as f32).collect::<Vec<_>>(), 4, 2);
        assert_eq!(halved, [2.5, 4.5, 10.5, 12.5]);
        assert_eq!(resize_bilinear(&[7.0], 1, 3), [7.0; 9]);
    }
}
