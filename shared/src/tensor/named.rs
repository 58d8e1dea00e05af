//! Tensors by name, as in a file or a model.

use std::collections::BTreeMap;

use crate::tensor::{Data, HostTensor};
use crate::{Error, Result};

/// Shapes of tensors by name.
pub type Shapes = BTreeMap<String, Vec<usize>>;

/// Tensors by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights(pub BTreeMap<String, HostTensor>);

impl Weights {
    /// Number of values, not counting the scales of quantized tensors.
    pub fn parameters(&self) -> usize {
        self.0.values().map(HostTensor::len).sum()
    }

    /// Checks that names and shapes are exactly those of `expected`.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::Shape`], or [`Error::Tensor`] if a tensor is unexpected.
    pub fn check(&self, expected: &Shapes) -> Result<()> {
        for (name, shape) in expected {
            self.get(name, shape)?;
        }
        match self.0.keys().find(|&name| !expected.contains_key(name)) {
            Some(name) => Err(unexpected(name)),
            None => Ok(()),
        }
    }

    /// Checks that all values are finite, and all scales of quantized tensors positive.
    ///
    /// # Errors
    /// [`Error::Tensor`] naming the tensor and the index of the first value that is not.
    pub fn check_finite(&self) -> Result<()> {
        self.0.iter().try_for_each(|(name, tensor)| check_finite(name, tensor))
    }

    /// Tensor of this name and shape.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] or [`Error::Shape`].
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<&HostTensor> {
        let tensor = self.0.get(name).ok_or_else(|| Error::MissingTensor { name: name.into(), found: self.0.len() })?;
        tensor.expect_shape(name, shape)?;
        Ok(tensor)
    }
}

/// Error for a tensor that is not part of the model.
pub fn unexpected(name: &str) -> Error {
    Error::Tensor { name: name.into(), reason: "the model has no such tensor: it is of another kind or version".into() }
}

/// [`Weights::check_finite`] for one tensor.
///
/// # Errors
/// [`Error::Tensor`] naming the tensor and the index of the first value that is not.
pub fn check_finite(name: &str, tensor: &HostTensor) -> Result<()> {
    let bad = match &tensor.data {
        Data::F32(values) => values.iter().position(|v| !v.is_finite()).map(|i| (i, values[i])),
        Data::F16(values) => values.iter().position(|v| !v.is_finite()).map(|i| (i, values[i].to_f32())),
        Data::Int8 { scales, .. } => return check_scales(name, scales.iter().copied()),
        Data::Int4 { scales, .. } => return check_scales(name, scales.iter().map(|s| s.to_f32())),
    };
    match bad {
        None => Ok(()),
        Some((flat, value)) => Err(Error::Tensor {
            name: name.into(),
            reason: format!("the value at {:?} is {value}, not a finite number", index(flat, &tensor.shape)),
        }),
    }
}

fn check_scales(name: &str, scales: impl Iterator<Item = f32>) -> Result<()> {
    let Some((i, scale)) = scales.enumerate().find(|(_, scale)| !(scale.is_finite() && *scale > 0.0)) else {
        return Ok(());
    };
    Err(Error::Tensor { name: name.into(), reason: format!("scale {i} is {scale}, it must be positive and finite") })
}

/// Row-major position → index along each dimension.
pub(crate) fn index(mut flat: usize, shape: &[usize]) -> Vec<usize> {
    let mut index: Vec<usize> = shape
        .iter()
        .rev()
        .map(|&extent| {
            let i = flat % extent;
            flat /= extent;
            i
        })
        .collect();
    index.reverse();
    index
}

/// Whether a tensor may be quantized: the weight of a linear layer, `[out, in]`, or the patch projection,
/// `[out, 3, patch, patch]`.
pub fn is_linear_weight(name: &str, shape: &[usize]) -> bool {
    shape.len() >= 2 && name.ends_with(".weight")
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    #[test]
    fn values_that_are_no_numbers_are_found_where_they_are() {
        let mut weights = Weights::default();
        weights.check_finite().unwrap();
        let mut values = vec![0.0; 24];
        values[12 + 8 + 3] = f32::NAN;
        weights.0.insert("x".into(), HostTensor::f32([2, 3, 4], values).unwrap());
        let error = weights.check_finite().unwrap_err().to_string();
        assert!(error.contains("tensor x: the value at [1, 2, 3] is NaN"), "{error}");

        let half = HostTensor { shape: vec![2], data: Data::F16(vec![f16::ONE, f16::INFINITY]) };
        let error = check_finite("h", &half).unwrap_err().to_string();
        assert!(error.contains("tensor h: the value at [1] is inf"), "{error}");

        for scale in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            let data = Data::Int8 { values: vec![1; 4], scales: vec![1.0, scale] };
            let error = check_finite("q", &HostTensor { shape: vec![2, 2], data }).unwrap_err().to_string();
            assert!(error.contains("tensor q: scale 1 is"), "{error}");

            let scales = [1.0, scale].map(f16::from_f32).to_vec();
            let int4 = HostTensor::int4("q", &[2, 2], vec![1; 2], scales, 32).unwrap();
            assert!(check_finite("q", &int4).unwrap_err().to_string().contains("tensor q: scale 1 is"));
        }
    }
}
