//! The subspace of a large encoder's channels that a smaller encoder imitates.

use candle_core::{Device, Result, Tensor};
use nalgebra::{DMatrix, DVector};

/// First and second moments of the channels of a stream of tokens.
pub struct FeatureMoments {
    rows: f64,
    sum: DVector<f64>,
    products: DMatrix<f64>,
}

impl FeatureMoments {
    /// Moments of no tokens.
    pub fn new(channels: usize) -> Self {
        Self { rows: 0.0, sum: DVector::zeros(channels), products: DMatrix::zeros(channels, channels) }
    }

    /// Adds `x [rows, channels]`.
    ///
    /// # Errors
    /// If the device fails.
    pub fn add(&mut self, x: &Tensor) -> Result<()> {
        self.rows += x.dim(0)? as f64;
        self.sum += host(&x.sum_keepdim(0)?)?.row(0).transpose();
        self.products += host(&x.t()?.matmul(x)?)?;
        Ok(())
    }

    /// Mean square of the tokens projected to the columns of `basis [channels, width]`.
    pub fn mean_square(&self, basis: &DMatrix<f64>) -> f64 {
        (basis.transpose() * &self.products * basis).trace() / (self.rows * basis.ncols() as f64)
    }

    /// Mean variance of the projected tokens.
    pub fn variance(&self, basis: &DMatrix<f64>) -> f64 {
        let mean = basis.transpose() * &self.sum / self.rows;
        self.mean_square(basis) - mean.norm_squared() / basis.ncols() as f64
    }
}

/// The `width` orthonormal directions `[channels, width]` with most of the streams' energy, strongest first. All streams count the
/// same, regardless of the size of their values.
pub fn principal<'a>(streams: impl Iterator<Item = &'a FeatureMoments>, width: usize) -> DMatrix<f64> {
    let shares = streams.map(|stream| &stream.products / stream.products.trace().max(f64::MIN_POSITIVE));
    let eigen = shares.sum::<DMatrix<f64>>().symmetric_eigen();
    let mut order: Vec<usize> = (0..eigen.eigenvalues.len()).collect();
    order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
    eigen.eigenvectors.select_columns(&order[..width])
}

/// The linear map from one stream to another.
pub struct Regression {
    left: DMatrix<f64>,
    right: DMatrix<f64>,
}

impl Regression {
    /// A map from `channels` to `width`, of no rows yet.
    pub fn new(channels: usize, width: usize) -> Self {
        Self { left: DMatrix::zeros(channels, channels), right: DMatrix::zeros(channels, width) }
    }

    /// Adds rows `x [rows, channels]` and their images `y [rows, width]`.
    ///
    /// # Errors
    /// If the device fails.
    pub fn add(&mut self, x: &Tensor, y: &Tensor) -> Result<()> {
        self.left += host(&x.t()?.matmul(x)?)?;
        self.right += host(&x.t()?.matmul(y)?)?;
        Ok(())
    }

    /// `b [channels, width]` that minimises `Σ |x b - y|²`.
    ///
    /// # Errors
    /// If a value is not finite.
    pub fn solve(mut self) -> Result<DMatrix<f64>> {
        let channels = self.left.nrows();
        // Regularised, because linearly dependent channels would make the solution arbitrary.
        let ridge = 1e-6 * self.left.trace() / channels as f64 + f64::MIN_POSITIVE;
        self.left += DMatrix::identity(channels, channels) * ridge;
        let left = self.left.cholesky().ok_or_else(|| candle_core::Error::Msg("features have a NaN".into()))?;
        Ok(left.solve(&self.right))
    }
}

fn host(x: &Tensor) -> Result<DMatrix<f64>> {
    let (rows, columns) = x.dims2()?;
    let values = x.flatten_all()?.to_vec1::<f32>()?;
    Ok(DMatrix::from_row_iterator(rows, columns, values.into_iter().map(f64::from)))
}

/// The matrix in single precision.
///
/// # Errors
/// If the device has not enough memory.
pub fn tensor(x: &DMatrix<f64>, device: &Device) -> Result<Tensor> {
    let values: Vec<f32> = x.transpose().iter().map(|&v| v as f32).collect();
    Tensor::from_vec(values, x.shape(), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(rows: usize, columns: usize, seed: usize) -> Tensor {
        let values: Vec<f32> = (0..rows * columns).map(|i| ((7 * i * i * i + seed * i) % 101) as f32 - 50.0).collect();
        Tensor::from_vec(values, (rows, columns), &Device::Cpu).unwrap()
    }

    fn moments(x: &Tensor) -> FeatureMoments {
        let mut moments = FeatureMoments::new(x.dim(1).unwrap());
        moments.add(&x.narrow(0, 0, 15).unwrap()).unwrap();
        moments.add(&x.narrow(0, 15, x.dim(0).unwrap() - 15).unwrap()).unwrap();
        moments
    }

    #[test]
    fn the_principal_directions_hold_what_lies_in_a_subspace() {
        let x = matrix(40, 3, 1).matmul(&matrix(3, 8, 5)).unwrap();
        let streams = [moments(&x), moments(&(&x * 1e-3).unwrap())];
        let all = streams[0].products.trace() / 40.0;
        let held = |width: usize| streams[0].mean_square(&principal(streams.iter(), width)) * width as f64 / all;
        assert!((held(3) - 1.0).abs() < 1e-6, "{}", held(3));
        assert!(held(2) < 0.99, "{}", held(2));
    }

    #[test]
    fn variance_leaves_the_mean_out() {
        let x = matrix(40, 4, 1);
        let basis = host(&matrix(4, 2, 9)).unwrap();
        let seen = host(&x).unwrap() * &basis;
        let expected = seen.column_iter().map(|column| column.variance()).sum::<f64>() / 2.0;
        let found = moments(&x).variance(&basis);
        assert!((found / expected - 1.0).abs() < 1e-6, "{found}, expected {expected}");
    }

    #[test]
    fn regression_finds_the_map_that_made_a_stream() {
        let (x, b) = (matrix(40, 5, 3), matrix(5, 2, 11));
        let mut regression = Regression::new(5, 2);
        for first in [0, 20] {
            let part = x.narrow(0, first, 20).unwrap();
            regression.add(&part, &part.matmul(&b).unwrap()).unwrap();
        }
        let difference = (regression.solve().unwrap() - host(&b).unwrap()).amax();
        assert!(difference < 1e-2, "{difference}");
    }
}
