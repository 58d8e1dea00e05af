//! Good patches → mean and principal directions (SubspaceAD).

use nalgebra::{DMatrix, DVector, SymmetricEigen};

use super::Features;
use crate::model::config::{MemoryConfig, MemoryKind};
use crate::model::memory::subspace_pieces;
use crate::tensor::HostTensor;
use crate::tensor::named::Weights;
use crate::{Error, Result};

/// Variance of unit vectors that is rounding error.
const SMALLEST_LEFT: f64 = 1e-9;

/// A subspace as a linear layer: what it leaves of a feature.
#[derive(Clone, Debug, PartialEq)]
pub struct Residual {
    /// `I - PᵀP [width, width]` with the principal directions `P`.
    pub weight: Vec<f32>,
    /// What takes away the mean: `-(I - PᵀP) mean`.
    pub bias: Vec<f32>,
    /// Variance that is left of the good patches: their mean distance.
    left: f64,
}

impl Residual {
    /// Multiplies the distance by `factor`.
    fn scale(&mut self, factor: f64) {
        // Distances are squares.
        let factor = factor.sqrt() as f32;
        self.weight.iter_mut().chain(&mut self.bias).for_each(|value| *value *= factor);
    }
}

/// Sums over patches that a subspace is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Sums {
    count: f64,
    sum: DVector<f64>,
    /// Sum of `xᵀx`.
    products: DMatrix<f64>,
}

impl Sums {
    /// Sums over the patches `[patches, width]` of a photo.
    pub fn of(patches: &[f32], width: usize) -> Self {
        let x = DMatrix::from_iterator(width, patches.len() / width, patches.iter().map(|&v| f64::from(v)));
        Self { count: x.ncols() as f64, sum: x.column_sum(), products: &x * x.transpose() }
    }

    /// Sums over the patches of both.
    #[must_use]
    pub fn with(mut self, other: &Self) -> Self {
        self.count += other.count;
        self.sum += &other.sum;
        self.products += &other.products;
        self
    }

    /// Sums over the patches of `self` that are not those of `other`.
    #[must_use]
    pub fn without(mut self, other: &Self) -> Self {
        self.count -= other.count;
        self.sum -= &other.sum;
        self.products -= &other.products;
        self
    }

    /// What the principal directions with this share of the variance leave.
    ///
    /// # Errors
    /// [`Error::Config`] if a sum is not finite or there are no patches.
    pub fn residual(&self, variance: f64) -> Result<Residual> {
        let width = self.sum.len();
        let f32 = |values: &[f64]| values.iter().map(|&v| v as f32).collect();
        if !(self.count > 0.0 && self.products.iter().all(|v| v.is_finite())) {
            return Err(Error::config("features of the good photos are missing or not finite"));
        }
        let mean = &self.sum / self.count;
        let covariance = &self.products / self.count - &mean * mean.transpose();
        if covariance.trace() < SMALLEST_LEFT {
            // Equal patches have no directions.
            let (weight, bias) = (DMatrix::<f64>::identity(width, width), -mean);
            return Ok(Residual { weight: f32(weight.as_slice()), bias: f32(bias.as_slice()), left: 0.0 });
        }
        let SymmetricEigen { eigenvectors, eigenvalues } = SymmetricEigen::new(covariance);
        let mut order: Vec<usize> = (0..width).collect();
        order.sort_by(|&a, &b| eigenvalues[b].total_cmp(&eigenvalues[a]));
        let total: f64 = eigenvalues.iter().map(|v| v.max(0.0)).sum();
        let mut residual = DMatrix::identity(width, width);
        let mut explained = 0.0;
        for i in order {
            if explained >= variance * total {
                break;
            }
            explained += eigenvalues[i].max(0.0);
            let direction = eigenvectors.column(i);
            residual.ger(-1.0, &direction, &direction, 1.0);
        }
        let bias = -(&residual * mean);
        // The matrix is symmetric: columns are rows.
        let (weight, bias) = (f32(residual.as_slice()), f32(bias.as_slice()));
        Ok(Residual { weight, bias, left: (total - explained).max(0.0) })
    }
}

/// Sums of photos, for subspaces with and without one of them.
#[derive(Clone, Debug)]
pub struct Subspaces {
    width: usize,
    variance: f64,
}

impl Subspaces {
    /// Subspaces of features of this width with this share of the variance.
    pub fn new(width: usize, variance: f64) -> Self {
        Self { width, variance }
    }

    /// Sums of each group of layers over photos.
    pub fn sums<'a>(&self, photos: impl IntoIterator<Item = &'a Features>) -> Vec<Sums> {
        let mut sums: Vec<Sums> = Vec::new();
        for photo in photos {
            let of_photo = photo.groups.iter().map(|patches| Sums::of(patches, self.width));
            sums = match sums.is_empty() {
                true => of_photo.collect(),
                false => sums.into_iter().zip(of_photo).map(|(sum, more)| sum.with(&more)).collect(),
            };
        }
        sums
    }

    /// What is left by the subspace of each group, scaled to one mean distance of good patches: layers whose features vary little
    /// count as much as others.
    ///
    /// # Errors
    /// As [`Sums::residual`].
    pub fn residuals(&self, sums: &[Sums]) -> Result<Vec<Residual>> {
        let mut residuals = sums.iter().map(|sums| sums.residual(self.variance)).collect::<Result<Vec<_>>>()?;
        let usual = residuals.iter().map(|residual| residual.left).sum::<f64>() / residuals.len().max(1) as f64;
        for residual in residuals.iter_mut().filter(|residual| residual.left > SMALLEST_LEFT) {
            residual.scale(usual / residual.left);
        }
        Ok(residuals)
    }
}

/// `config` with a subspace for each class of photos, and the tensors.
///
/// # Errors
/// [`Error::Config`] if a class has no photos, or a feature is not finite.
pub fn memory(
    config: &MemoryConfig,
    classes: &[&[&Features]],
    subspaces: &Subspaces,
) -> Result<(MemoryConfig, Weights)> {
    let width = config.encoder.hidden_size;
    let of_class = |photos: &&[&Features]| subspaces.residuals(&subspaces.sums(photos.iter().copied()));
    let residuals = classes.iter().map(of_class).collect::<Result<Vec<_>>>()?;
    let memory = MemoryKind::Subspace { subspaces: classes.len() };
    let config = MemoryConfig { memory, ..config.clone() };
    config.validate()?;
    let mut weights = Weights::default();
    for group in 0..config.groups.len() {
        for (piece, first, count) in subspace_pieces(classes.len(), width) {
            let of_group = residuals[first..first + count].iter().map(|groups| groups.get(group));
            let of_group =
                of_group.collect::<Option<Vec<_>>>().ok_or_else(|| Error::config("a class has no photos"))?;
            let weight = of_group.iter().flat_map(|residual| residual.weight.iter().copied()).collect();
            let bias = of_group.iter().flat_map(|residual| residual.bias.iter().copied()).collect();
            let name = format!("memory.{group}.residual.{piece}");
            weights.0.insert(format!("{name}.weight"), HostTensor::f32([count * width, width], weight)?);
            weights.0.insert(format!("{name}.bias"), HostTensor::f32([count * width], bias)?);
        }
    }
    if classes.len() > 1 {
        let prototypes = classes.iter().flat_map(|photos| prototype(photos, width)).collect();
        weights.0.insert("memory.prototypes".into(), HostTensor::f32([classes.len(), width], prototypes)?);
    }
    Ok((config, weights))
}

/// Mean of the class tokens of a class's photos.
fn prototype(photos: &[&Features], width: usize) -> Vec<f32> {
    let mut mean = vec![0.0; width];
    for photo in photos {
        mean.iter_mut().zip(&photo.class_token).for_each(|(sum, value)| *sum += value / photos.len() as f32);
    }
    mean
}
