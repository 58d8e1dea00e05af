//! What values a row of a weight may be rounded to, and which are best.

use half::f16;

use super::compensate::Compensation;

/// Multiples of a scale, so many values of a row to each scale.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    /// The lowest and the highest multiple.
    range: (f32, f32),
    /// Values that share a scale.
    pub group: usize,
    /// Whether scales are stored in half precision.
    half: bool,
}

/// What a row becomes.
pub(super) struct Row {
    /// Multiples of the scales.
    pub values: Vec<i8>,
    /// One for each group.
    pub scales: Vec<f32>,
    /// The layer's bias for this row.
    pub bias: Option<f32>,
}

/// How many scales are tried for a group, from the largest down to half of it.
const SCALES: u32 = 41;

impl Grid {
    /// -127 to 127, one scale for the whole row: symmetric, so that -128 never occurs.
    pub fn int8(row: usize) -> Self {
        Self { range: (-127.0, 127.0), group: row, half: false }
    }

    /// -8 to 7, a scale in half precision for each group.
    pub fn int4(group: usize) -> Self {
        Self { range: (-8.0, 7.0), group, half: true }
    }

    /// Rounds a row.
    ///
    /// With `compensation` each value's rounding error is made up for by the values after it, as far as inputs that occur allow,
    /// and by the layer's bias for this row, where it has one.
    pub fn round_row(&self, row: &[f32], bias: Option<f32>, compensation: Option<&Compensation>) -> Row {
        let scales: Vec<f32> = row.chunks(self.group).map(|group| self.best_scale(group)).collect();
        let scale = |i: usize| scales[i / self.group];
        let Some(compensation) = compensation else {
            let values = row.iter().enumerate().map(|(i, &value)| self.round(value, scale(i)) as i8).collect();
            return Row { values, scales, bias };
        };
        let all: Vec<f32> = row.iter().copied().chain(bias).collect();
        let mut ordered: Vec<f32> = compensation.order().iter().map(|&i| all[i]).collect();
        let mut values = vec![0; row.len()];
        for (k, &i) in compensation.order()[..row.len()].iter().enumerate() {
            let value = self.round(ordered[k], scale(i));
            values[i] = value as i8;
            compensation.spread(&mut ordered, k, value * scale(i));
        }
        Row { values, bias: ordered.get(row.len()).copied(), scales }
    }

    /// The scale of least squared error; 1 for zeros, or for values so small that their scale vanishes.
    fn best_scale(&self, values: &[f32]) -> f32 {
        let widest = values.iter().fold(0.0_f32, |most, v| most.max(v.abs())) / self.range.1;
        let error =
            |scale: f32| -> f64 { values.iter().map(|&v| f64::from(self.round(v, scale) * scale - v).powi(2)).sum() };
        let stored = |scale: f32| if self.half { f16::from_f32(scale).to_f32() } else { scale };
        let candidates = (0..SCALES).map(|i| stored(widest * (1.0 - 0.5 * i as f32 / (SCALES - 1) as f32)));
        let scales = candidates.filter(|&scale| scale > 0.0).map(|scale| (error(scale), scale));
        scales.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(1.0, |(_, scale)| scale)
    }

    /// Halves are rounded away from zero.
    pub fn round(&self, value: f32, scale: f32) -> f32 {
        (value / scale).round().clamp(self.range.0, self.range.1)
    }
}
