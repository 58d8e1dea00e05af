//! Rotary positions of DINOv3 (Siméoni et al. 2025; `RopePositionEmbedding` with separately normalised coordinates).

use std::f64::consts::TAU;

/// Periods of published DINOv3 models, `100^(i / count)`, for files of Hugging Face, which do not store them. The original files
/// store them rounded to bfloat16.
pub fn periods(count: usize) -> Vec<f32> {
    (0..count).map(|i| 100f64.powf(i as f64 / count as f64) as f32).collect()
}

/// Cosines, then sines, of every patch's angles `[grid², 4·periods]`: 2π times the patch's row, then its column, divided by each
/// period. Rows and columns range from -1 to 1 on any grid, so that nothing is interpolated.
pub fn rotation(periods: &[f32], grid: usize) -> Vec<f32> {
    let middle = |place: usize| 2.0 * (place as f64 + 0.5) / grid as f64 - 1.0;
    let patch = |i: usize| {
        let places = [i / grid, i % grid].map(middle);
        let angles = places.into_iter().flat_map(|place| periods.iter().map(move |&p| TAU * place / f64::from(p)));
        let (cosines, sines): (Vec<f32>, Vec<f32>) = angles.map(|a| (a.cos() as f32, a.sin() as f32)).unzip();
        cosines.into_iter().chain(sines)
    };
    (0..grid * grid).flat_map(patch).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_turn_the_first_quarter_and_columns_the_second() {
        assert_eq!(periods(2), [1.0, 10.0]);
        // Two patches a side lie at -1/2 and 1/2; the third patch is the lower left one.
        let table = rotation(&[4.0, 8.0], 2);
        let (row, column) = ([TAU / 8.0, TAU / 16.0], [-TAU / 8.0, -TAU / 16.0]);
        let angles = [row, column].concat();
        let expected = angles.iter().map(|a| a.cos()).chain(angles.iter().map(|a| a.sin()));
        for (found, expected) in table[2 * 8..3 * 8].iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-7, "{table:?}");
        }
    }
}
