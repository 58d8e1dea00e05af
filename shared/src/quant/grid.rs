//! Quantization grids, and the best scale on them.

use half::f16;

use super::compensate::Compensation;

/// Grid of integer multiples of a scale.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    /// Lowest and highest multiple.
    range: (f32, f32),
    /// Number of values of a row that share a scale.
    pub group: usize,
    /// Whether scales are stored in half precision.
    half: bool,
}

/// A rounded row.
pub(super) struct Row {
    /// Multiples of the scales.
    pub values: Vec<i8>,
    /// Scale of each group.
    pub scales: Vec<f32>,
    /// Bias of this row.
    pub bias: Option<f32>,
}

/// Number of scales tried for a group, from the largest down to half of it.
const SCALES: u32 = 41;

impl Grid {
    /// Grid of -127 to 127 with one scale per row. It is symmetric: -128 never occurs.
    pub fn int8(row: usize) -> Self {
        Self { range: (-127.0, 127.0), group: row, half: false }
    }

    /// Grid of -8 to 7 with a half-precision scale per group.
    pub fn int4(group: usize) -> Self {
        Self { range: (-8.0, 7.0), group, half: true }
    }

    /// Rounds a row.
    ///
    /// With `compensation` the values after a rounded one compensate its error, as far as the inputs allow, and so does the
    /// row's bias, if there is one.
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

    /// Scale of least squared error; 1 for zeros, or for values so small that their scale underflows.
    fn best_scale(&self, values: &[f32]) -> f32 {
        let widest = values.iter().fold(0.0_f32, |most, v| most.max(v.abs())) / self.range.1;
        let error =
            |scale: f32| -> f64 { values.iter().map(|&v| f64::from(self.round(v, scale) * scale - v).powi(2)).sum() };
        let stored = |scale: f32| if self.half { f16::from_f32(scale).to_f32() } else { scale };
        let candidates = (0..SCALES).map(|i| stored(widest * (1.0 - 0.5 * i as f32 / (SCALES - 1) as f32)));
        let scales = candidates.filter(|&scale| scale > 0.0).map(|scale| (error(scale), scale));
        scales.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(1.0, |(_, scale)| scale)
    }

    /// Rounds a value to a multiple of the scale, halves away from zero.
    pub fn round(&self, value: f32, scale: f32) -> f32 {
        (value / scale).round().clamp(self.range.0, self.range.1)
    }
}
