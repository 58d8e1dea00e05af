//! Compensation of rounding errors: GPTQ (Frantar et al. 2022), with the second moments of a layer's inputs on good photos.
//!
//! A row `w` of a weight contributes `(w - ŵ) H (w - ŵ)ᵀ` to the squared error of the layer's output, where `H` is the mean of
//! `xᵀx` over inputs `x`. After a value is rounded, the following values move to where this error is least. A bias is one more
//! value, whose input is always one: it comes last and is never rounded, which removes the rest of the mean error.

use crate::tensor::HostTensor;
use crate::{Error, Result};

/// Addition to the diagonal of `H`, as a share of its mean: constrains directions in which inputs do not vary.
const DAMPING: f64 = 0.01;

/// Upper triangular `U` of `H⁻¹ = UᵀU`, for a row's values in the order of rounding.
pub(super) struct Compensation {
    /// Order of rounding, as positions in a row: values with the largest inputs come first, while many others can compensate.
    order: Vec<usize>,
    factor: Vec<f32>,
}

impl Compensation {
    /// Compensation from second moments `[in + 1, in + 1]` of inputs followed by a one. `bias` says whether rows end with a bias;
    /// `name` is used in error messages only.
    ///
    /// # Errors
    /// [`Error::Shape`] if the moments are not those of `inputs` channels, [`Error::Tensor`] if they are not positive definite.
    pub fn new(name: &str, moments: &HostTensor, inputs: usize, bias: bool) -> Result<Self> {
        moments.expect_shape(&format!("second moments of the inputs of {name}"), &[inputs + 1, inputs + 1])?;
        let moments = moments.to_f32();
        let moment = |i: usize, j: usize| f64::from(moments[i * (inputs + 1) + j]);
        let mean = (0..inputs).map(|i| moment(i, i)).sum::<f64>() / inputs as f64;
        // Inputs that are all zero cause no error.
        let damping = if mean > 0.0 { DAMPING * mean } else { 1.0 };
        let mut order: Vec<usize> = (0..inputs).collect();
        order.sort_by(|&i, &j| moment(j, j).total_cmp(&moment(i, i)));
        order.extend(bias.then_some(inputs));
        let size = order.len();
        let mut h: Vec<f64> = order.iter().flat_map(|&i| order.iter().map(move |&j| moment(i, j))).collect();
        (0..inputs).for_each(|k| h[k * size + k] += damping);
        let factor = triangle(&mut h, size).ok_or_else(|| Error::Tensor {
            name: name.into(),
            reason: "the second moments of its inputs are not positive: check the photos and the weights".into(),
        })?;
        Ok(Self { order, factor })
    }

    /// Order of rounding, as positions in a row; a bias last.
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// Moves the values after number `k` of the order, to compensate its rounding to `rounded`.
    pub fn spread(&self, row: &mut [f32], k: usize, rounded: f32) {
        let factor = &self.factor[k * self.order.len()..][..self.order.len()];
        let error = (row[k] - rounded) / factor[k];
        row[k + 1..].iter_mut().zip(&factor[k + 1..]).for_each(|(value, f)| *value -= error * f);
    }
}

/// `U` of `H⁻¹ = UᵀU`: the inverse of the upper triangular `R` of `H = RRᵀ`. `None` if `H` is not positive definite.
fn triangle(h: &mut [f64], n: usize) -> Option<Vec<f32>> {
    // R replaces H's upper half, from the last column on.
    for j in (0..n).rev() {
        let (above, from_j) = h.split_at_mut(j * n);
        let row_j = &mut from_j[..n];
        let square = row_j[j] - row_j[j + 1..].iter().map(|v| v * v).sum::<f64>();
        if !(square > 0.0 && square.is_finite()) {
            return None;
        }
        row_j[j] = square.sqrt();
        for row_i in above.chunks_exact_mut(n) {
            let dot: f64 = row_i[j + 1..].iter().zip(&row_j[j + 1..]).map(|(a, b)| a * b).sum();
            row_i[j] = (row_i[j] - dot) / row_j[j];
        }
    }
    // Row i of the inverse is -1 / R_ii · Σ R_ik U_k over the rows below.
    let mut inverse = vec![0.0_f64; n * n];
    for i in (0..n).rev() {
        let (upper, below) = inverse.split_at_mut((i + 1) * n);
        let row = &mut upper[i * n..];
        for (k, row_k) in (i + 1..n).zip(below.chunks_exact(n)) {
            let share = h[i * n + k];
            row[k..].iter_mut().zip(&row_k[k..]).for_each(|(sum, u)| *sum -= share * u);
        }
        row[i + 1..].iter_mut().for_each(|v| *v /= h[i * n + i]);
        row[i] = 1.0 / h[i * n + i];
    }
    Some(inverse.into_iter().map(|v| v as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factor_is_the_inverse_of_the_moments() {
        let n = 7;
        // A sum of squares: positive definite.
        let wave = |i: usize, j: usize| ((3 * i + 5 * j + 1) as f64).sin() + if i == j { 2.0 } else { 0.0 };
        let h: Vec<f64> = (0..n * n).map(|at| (0..n).map(|k| wave(at / n, k) * wave(at % n, k)).sum::<f64>()).collect();
        let u = triangle(&mut h.clone(), n).unwrap();
        let u = |i: usize, j: usize| f64::from(u[i * n + j]);
        for (i, j) in (0..n).flat_map(|i| (0..n).map(move |j| (i, j))) {
            assert!(j >= i || u(i, j) == 0.0, "below the diagonal");
            let inverse = |i: usize, j: usize| (0..n).map(|k| u(k, i) * u(k, j)).sum::<f64>();
            let product: f64 = (0..n).map(|k| inverse(i, k) * h[k * n + j]).sum();
            assert!((product - f64::from(u8::from(i == j))).abs() < 1e-4, "{product} at {i}, {j}");
        }
        assert!(triangle(&mut [1.0, 2.0, 2.0, 1.0], 2).is_none(), "not positive definite");
    }

    #[test]
    fn the_loudest_input_comes_first_and_the_bias_last() {
        let mut moments = vec![0.0; 16];
        for (at, value) in [(0, 1.0), (5, 9.0), (10, 4.0), (15, 1.0)] {
            moments[at] = value;
        }
        let moments = HostTensor::f32([4, 4], moments).unwrap();
        let order = |bias| Compensation::new("w", &moments, 3, bias).unwrap().order().to_vec();
        assert_eq!((order(true), order(false)), (vec![1, 2, 0, 3], vec![1, 2, 0]));
    }

    #[test]
    fn inputs_that_are_never_seen_leave_a_row_alone() {
        let mut moments = vec![0.0; 9];
        moments[8] = 1.0;
        let compensation = Compensation::new("w", &HostTensor::f32([3, 3], moments).unwrap(), 2, true).unwrap();
        let mut row = [0.4, 0.7, 0.1];
        compensation.spread(&mut row, 0, 0.0);
        assert_eq!(row, [0.4, 0.7, 0.1]);
    }
}
