//! Quantization of weights: int8 with a scale per output channel, int4 with a scale per group of a row, f16.
//!
//! Only weights of linear layers become int8 or int4, but for the matrices of subspaces, which become f16. Norms, biases, tokens and tables are small and do not change, except
//! that tables become f16 beside int4 weights. Activations are not quantized.

mod compensate;
mod grid;

use std::collections::BTreeMap;

use half::f16;

use self::compensate::Compensation;
use self::grid::Grid;
use crate::tensor::int4;
use crate::tensor::named::{Weights, check_finite, index, is_linear_weight};
use crate::tensor::{Data, HostTensor};
use crate::{Error, Result};

/// Format of quantized weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One byte per value, a scale per output channel.
    Int8,
    /// Half a byte per value, a scale per [`INT4_GROUP`] values; see [`Format::of`].
    Int4,
    /// Half precision.
    F16,
}

/// Weight that int4 stores as int8: a hundredth of a small encoder's weights, whose rounding affects every later layer. This
/// halves the loss of int4 on a DeiT-Ti model of real photos, rounded without moments.
const PATCH_PROJECTION: &str = "encoder.patch_embed.proj.weight";

/// Whether a tensor is the matrix of subspaces, which int8 and int4 store as f16. What it leaves of a patch is a tenth of it, so that
/// errors of its values count ten times.
fn is_residual(name: &str) -> bool {
    name.starts_with("memory.") && name.contains(".residual.")
}

/// Number of values that share a scale in int4 weights.
pub const INT4_GROUP: usize = 32;

/// Second moments `[in + 1, in + 1]` of layers' inputs on photos, by name of the weight: the mean of `xᵀx` over inputs `x`
/// followed by a one, for the bias. The last row is the mean of the inputs.
pub type InputMoments = BTreeMap<String, HostTensor>;

impl Format {
    /// Format that a tensor is rounded to; `None` if it does not change.
    pub fn of(self, name: &str, shape: &[usize]) -> Option<Self> {
        match self {
            _ if shape.len() < 2 => None,
            Self::F16 => Some(Self::F16),
            _ if !is_linear_weight(name, shape) => (self == Self::Int4).then_some(Self::F16),
            _ if is_residual(name) => Some(Self::F16),
            Self::Int4 if name == PATCH_PROJECTION => Some(Self::Int8),
            format => Some(format),
        }
    }
}

/// Loss of one tensor in quantization.
#[derive(Clone, Debug, PartialEq)]
pub struct Rounding {
    /// Name of the tensor.
    pub name: String,
    /// Largest absolute difference of a value.
    pub largest: f32,
    /// Root mean square of the differences divided by that of the values; 0 for an all-zero tensor.
    pub relative: f32,
}

/// Rounds one tensor. Rows of int8 and groups of int4 are divided by their scale and rounded, halves away from zero.
///
/// The scale has the least squared error among `largest magnitude / 127` (or 7) and smaller ones, which clip the largest values
/// and round the others better. On a DeiT-Ti model of real photos int8 thus loses 0.2 points of AUPRO, not the 0.6 of
/// `max|row| / 127`.
///
/// # Errors
/// [`Error::Tensor`] if the tensor has no rows, or a value is not finite or too large for the format.
pub fn round_tensor(name: &str, tensor: &HostTensor, format: Format) -> Result<HostTensor> {
    round_layer(name, tensor, None, format, None).map(|(rounded, _)| rounded)
}

/// Rounds the weight of a linear layer like [`round_tensor`]. With `moments` of its inputs, values compensate the rounding of
/// earlier ones, and the bias, which is not rounded, compensates the rest. Returns weight and f32 bias, if there is one.
///
/// # Errors
/// As [`round_tensor`]; [`Error::Shape`] if the moments are those of another layer.
pub fn round_layer(
    name: &str,
    weight: &HostTensor,
    bias: Option<&HostTensor>,
    format: Format,
    moments: Option<&HostTensor>,
) -> Result<(HostTensor, Option<HostTensor>)> {
    check_finite(name, weight)?;
    let source = weight.to_f32();
    if format == Format::F16 {
        return Ok((to_half(name, weight, &source)?, bias.cloned()));
    }
    if weight.shape.len() < 2 || weight.is_empty() {
        let reason = format!("shape {:?} has no output channels to quantize by", weight.shape);
        return Err(Error::Tensor { name: name.into(), reason });
    }
    let (rows, row) = (weight.shape[0], source.len() / weight.shape[0]);
    if let Some(bias) = bias {
        bias.expect_shape(&format!("bias of {name}"), &[rows])?;
    }
    let grid = if format == Format::Int8 { Grid::int8(row) } else { Grid::int4(INT4_GROUP) };
    let compensation = moments.map(|moments| Compensation::new(name, moments, row, bias.is_some())).transpose()?;
    let before = bias.map(HostTensor::to_f32);
    let (mut values, mut scales, mut after) = (Vec::with_capacity(source.len()), Vec::new(), Vec::new());
    for (i, row) in source.chunks_exact(row).enumerate() {
        let rounded = grid.round_row(row, before.as_ref().map(|bias| bias[i]), compensation.as_ref());
        values.extend(rounded.values);
        scales.extend(rounded.scales);
        after.extend(rounded.bias);
    }
    let bias = bias.map(|_| HostTensor::f32([rows], after)).transpose()?;
    if format == Format::Int8 {
        return Ok((HostTensor { shape: weight.shape.clone(), data: Data::Int8 { values, scales } }, bias));
    }
    let packed = values.chunks(row).flat_map(int4::pack).collect();
    let scales: Vec<f16> = scales.into_iter().map(f16::from_f32).collect();
    let rounded = HostTensor::int4(name, &weight.shape, packed, scales, INT4_GROUP)?;
    check_finite(name, &rounded)?;
    Ok((rounded, bias))
}

/// Rounds each value to half precision, halves to even.
fn to_half(name: &str, tensor: &HostTensor, source: &[f32]) -> Result<HostTensor> {
    let values: Vec<f16> = source.iter().copied().map(f16::from_f32).collect();
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(HostTensor { shape: tensor.shape.clone(), data: Data::F16(values) }),
        Some(i) => Err(Error::Tensor {
            name: name.into(),
            reason: format!(
                "the value at {:?} is {}, more than the largest of f16, {}: store it as int8",
                index(i, &tensor.shape),
                source[i],
                f16::MAX
            ),
        }),
    }
}

/// [`quantize_to`] with int8 and no moments.
///
/// # Errors
/// As [`quantize_to`].
pub fn quantize(weights: &Weights) -> Result<(Weights, Vec<Rounding>)> {
    quantize_to(weights, Format::Int8, &InputMoments::new())
}

/// Rounds the tensors that [`Format::of`] selects, and reports the loss of each. Tensors that already are int8, int4 or of their
/// new type do not change. `moments` may cover only some layers, whose biases then change too.
///
/// # Errors
/// As [`round_layer`].
pub fn quantize_to(weights: &Weights, format: Format, moments: &InputMoments) -> Result<(Weights, Vec<Rounding>)> {
    let mut quantized = weights.clone();
    let mut report = Vec::new();
    for (name, tensor) in &weights.0 {
        let Some(format) = format.of(name, &tensor.shape) else { continue };
        let left_alone = match tensor.data {
            Data::F32(_) => false,
            Data::F16(_) => format == Format::F16,
            Data::Int8 { .. } | Data::Int4 { .. } => true,
        };
        if left_alone {
            continue;
        }
        let moments = moments.get(name);
        let bias = name.strip_suffix(".weight").map(|layer| format!("{layer}.bias")).filter(|_| moments.is_some());
        let bias = bias.as_ref().and_then(|name| weights.0.get_key_value(name));
        let (rounded, after) = round_layer(name, tensor, bias.map(|(_, bias)| bias), format, moments)?;
        report.push(compare(name, tensor, &rounded));
        quantized.0.insert(name.clone(), rounded);
        if let (Some((name, _)), Some(after)) = (bias, after) {
            quantized.0.insert(name.clone(), after);
        }
    }
    Ok((quantized, report))
}

/// All tensors in single precision.
pub fn dequantize(weights: &Weights) -> Weights {
    let widen = |t: &HostTensor| HostTensor { shape: t.shape.clone(), data: Data::F32(t.to_f32().into_owned()) };
    Weights(weights.0.iter().map(|(name, tensor)| (name.clone(), widen(tensor))).collect())
}

fn compare(name: &str, before: &HostTensor, after: &HostTensor) -> Rounding {
    let (before, after) = (before.to_f32(), after.to_f32());
    let (mut largest, mut error, mut power) = (0.0_f32, 0.0_f64, 0.0_f64);
    for (b, a) in before.iter().zip(after.iter()) {
        largest = largest.max((a - b).abs());
        error += f64::from(a - b).powi(2);
        power += f64::from(*b).powi(2);
    }
    let relative = if power > 0.0 { (error / power).sqrt() as f32 } else { 0.0 };
    Rounding { name: name.into(), largest, relative }
}

#[cfg(test)]
mod tests;
