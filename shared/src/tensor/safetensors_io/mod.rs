//! safetensors bytes ↔ [`Weights`].
//!
//! F32 and F16 do not change, BF16 is widened to F32, F64 narrowed to it; floats of 8 bits are widened to F16. Quantized tensors are ordinary safetensors that any reader can open:
//!
//! - int8: I8 `name [out, …]` beside F32 `name.scale [out]`;
//! - int4: U8 `name [out, ceil(in / 2)]`, low nibble first, beside F16 `name.scale [out, ceil(in / group)]` and
//!   I64 `name.layout` of `[group, out, in…]`, because the packed shape does not tell it.
//!
//! Equal weights give equal bytes.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use half::{bf16, f16};
use safetensors::tensor::{Metadata, TensorView, View};
use safetensors::{Dtype, SafeTensors};

use crate::tensor::int4::GROUPS;
use crate::tensor::named::{Shapes, Weights};
use crate::tensor::{Data, HostTensor, float8};
use crate::{Error, Result};

/// Suffix of the tensor that holds a quantized tensor's scales.
const SCALE: &str = ".scale";

/// Suffix of the tensor that holds group and shape of an int4 tensor.
const LAYOUT: &str = ".layout";

/// Safetensors file with a parsed header, whose tensors are read on demand.
#[derive(Debug)]
pub struct Reader<'a> {
    file: &'a str,
    tensors: SafeTensors<'a>,
    header: Metadata,
}

impl<'a> Reader<'a> {
    /// Parses the header of `bytes`; `file` is used in error messages only.
    ///
    /// # Errors
    /// [`Error::Model`] if this is no complete safetensors file.
    pub fn new(file: &'a str, bytes: &'a [u8]) -> Result<Self> {
        let refuse = |e| {
            let reason =
                format!("not a complete safetensors file ({e}): it is truncated, altered or of another format");
            Error::Model { file: file.into(), reason }
        };
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(refuse)?;
        let tensors = SafeTensors::deserialize(bytes).map_err(refuse)?;
        Ok(Self { file, tensors, header })
    }

    /// Names and shapes of the tensors, scales and layouts excluded.
    pub fn shapes(&self) -> Shapes {
        let tensors = self.tensors.iter().filter(|(name, _)| !self.belongs_to_another(name));
        // A missing layout of an int4 tensor is refused when the tensor is read.
        let shape = |name: &str, view: &TensorView<'_>| match view.dtype() {
            Dtype::U8 => self.layout(name).map(|(_, shape)| shape).unwrap_or_else(|_| view.shape().to_vec()),
            _ => view.shape().to_vec(),
        };
        tensors.map(|(name, view)| (name.to_owned(), shape(name, &view))).collect()
    }

    /// Value from the header's `__metadata__`.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.header.metadata().as_ref()?.get(key).map(String::as_str)
    }

    /// Reads a tensor.
    ///
    /// # Errors
    /// [`Error::Model`] naming file and tensor, if it is missing, of an unsupported type, or its scales or layout are missing or of a
    /// wrong shape.
    pub fn tensor(&self, name: &str) -> Result<HostTensor> {
        self.decode(name).map_err(|e| e.in_file(self.file))
    }

    fn belongs_to_another(&self, name: &str) -> bool {
        let owned_by = |end: &str, types: &[Dtype]| {
            name.strip_suffix(end).and_then(|base| self.header.info(base)).is_some_and(|i| types.contains(&i.dtype))
        };
        owned_by(SCALE, &[Dtype::I8, Dtype::U8]) || owned_by(LAYOUT, &[Dtype::U8])
    }

    fn view(&self, name: &str) -> Result<TensorView<'a>> {
        self.tensors.tensor(name).map_err(|_| Error::MissingTensor { name: name.into(), found: self.tensors.len() })
    }

    fn decode(&self, name: &str) -> Result<HostTensor> {
        let view = self.view(name)?;
        let bytes = view.data();
        let data = match view.dtype() {
            Dtype::F32 => Data::F32(read_f32(bytes)),
            Dtype::F16 => Data::F16(read_f16(bytes)),
            Dtype::BF16 => {
                Data::F32(bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect())
            }
            Dtype::F64 => Data::F32(bytes.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect()),
            Dtype::F8_E4M3 => Data::F16(bytes.iter().map(|&b| float8::e4m3(b)).collect()),
            Dtype::F8_E5M2 => Data::F16(bytes.iter().map(|&b| float8::e5m2(b)).collect()),
            Dtype::I8 => self.decode_int8(name, view.shape(), bytes)?,
            Dtype::U8 => return self.decode_int4(name, &view),
            other => {
                let reason =
                    format!("has type {other}, only F64, F32, F16, BF16, F8_E4M3, F8_E5M2, I8 and U8 are supported");
                return Err(Error::Tensor { name: name.into(), reason });
            }
        };
        Ok(HostTensor { shape: view.shape().to_vec(), data })
    }

    fn decode_int8(&self, name: &str, shape: &[usize], bytes: &[u8]) -> Result<Data> {
        let scales = self.companion(name, SCALE, Dtype::F32, &[shape.first().copied().unwrap_or(0)])?;
        let values: Vec<i8> = bytes.iter().map(|&b| b.cast_signed()).collect();
        if let Some(i) = values.iter().position(|&v| v == i8::MIN) {
            let reason = format!("value {i} is -128, symmetric int8 goes from -127 to 127");
            return Err(Error::Tensor { name: name.into(), reason });
        }
        Ok(Data::Int8 { values, scales: read_f32(scales) })
    }

    fn decode_int4(&self, name: &str, view: &TensorView<'_>) -> Result<HostTensor> {
        let (group, shape) = self.layout(name)?;
        let rows = shape.first().copied().unwrap_or(0);
        let row: usize = shape.iter().skip(1).product();
        if view.shape() != [rows, row.div_ceil(2)] {
            let (expected, found) = (vec![rows, row.div_ceil(2)], view.shape().to_vec());
            return Err(Error::Shape { name: name.into(), expected, found });
        }
        let scales = self.companion(name, SCALE, Dtype::F16, &[rows, row.div_ceil(group)])?;
        HostTensor::int4(name, &shape, view.data().to_vec(), read_f16(scales), group)
    }

    /// Group and shape of an int4 tensor.
    fn layout(&self, name: &str) -> Result<(usize, Vec<usize>)> {
        let own = format!("{name}{LAYOUT}");
        let dimensions = self.view(&own)?.shape().iter().product();
        let bytes = self.companion(name, LAYOUT, Dtype::I64, &[dimensions])?;
        let number = |b: &[u8]| {
            let number = b.iter().rev().fold(0_u64, |number, &byte| number << 8 | u64::from(byte));
            usize::try_from(number).ok()
        };
        let countable = |shape: &[usize]| shape.iter().try_fold(1_usize, |len, &n| len.checked_mul(n)).is_some();
        match bytes.chunks_exact(8).map(number).collect::<Option<Vec<_>>>().as_deref() {
            Some([group, shape @ ..]) if GROUPS.contains(group) && countable(shape) => Ok((*group, shape.to_vec())),
            _ => {
                let reason = "expected the group, 32 or 64, and the shape of an int4 tensor".into();
                Err(Error::Tensor { name: own, reason })
            }
        }
    }

    /// Bytes of the scales or layout of a quantized tensor.
    fn companion(&self, name: &str, end: &str, dtype: Dtype, shape: &[usize]) -> Result<&'a [u8]> {
        let name = format!("{name}{end}");
        let view = self.view(&name)?;
        if view.dtype() != dtype {
            return Err(Error::Tensor { name, reason: format!("has type {}, expected {dtype}", view.dtype()) });
        }
        if view.shape() != shape {
            return Err(Error::Shape { name, expected: shape.to_vec(), found: view.shape().to_vec() });
        }
        Ok(view.data())
    }
}

fn read_f16(bytes: &[u8]) -> Vec<f16> {
    bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]])).collect()
}

fn read_f32(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// Reads all tensors of a safetensors file; `file` is used in error messages only.
///
/// # Errors
/// As [`Reader::new`] and [`Reader::tensor`]; also if a value is not finite, naming tensor and index.
pub fn read(file: &str, bytes: &[u8]) -> Result<Weights> {
    let reader = Reader::new(file, bytes)?;
    let tensors = reader.shapes().into_keys().map(|name| Ok((name.clone(), reader.tensor(&name)?)));
    let weights = Weights(tensors.collect::<Result<_>>()?);
    weights.check_finite().map_err(|e| e.in_file(file))?;
    Ok(weights)
}

/// Writes a safetensors file, with at most one entry of `__metadata__` (the order of several is not fixed:
/// findings/safetensors-metadata-order.sh).
///
/// # Errors
/// [`Error::Tensor`] if a name is needed twice or a value is not finite.
pub fn write(weights: &Weights, metadata: Option<(&str, &str)>) -> Result<Vec<u8>> {
    weights.check_finite()?;
    let mut encoded = BTreeMap::new();
    for (name, tensor) in &weights.0 {
        for (end, tensor) in encode(tensor) {
            let name = format!("{name}{end}");
            if encoded.contains_key(&name) {
                let reason = "this name is also needed for a part of a quantized tensor".into();
                return Err(Error::Tensor { name, reason });
            }
            encoded.insert(name, tensor);
        }
    }
    let metadata = metadata.map(|(key, value)| HashMap::from([(key.to_owned(), value.to_owned())]));
    safetensors::serialize(encoded, metadata)
        .map_err(|e| Error::Tensor { name: "(all)".into(), reason: format!("cannot be written as safetensors: {e}") })
}

/// A tensor with its scales and layout, each with the suffix of its name.
fn encode(tensor: &HostTensor) -> Vec<(&'static str, Encoded)> {
    let shape = tensor.shape.clone();
    match &tensor.data {
        Data::F32(values) => vec![("", Encoded { dtype: Dtype::F32, shape, bytes: f32_bytes(values) })],
        Data::F16(values) => vec![("", Encoded { dtype: Dtype::F16, shape, bytes: f16_bytes(values) })],
        Data::Int8 { values, scales } => {
            let scale = Encoded { dtype: Dtype::F32, shape: vec![scales.len()], bytes: f32_bytes(scales) };
            let bytes = values.iter().map(|v| v.cast_unsigned()).collect();
            vec![(SCALE, scale), ("", Encoded { dtype: Dtype::I8, shape, bytes })]
        }
        Data::Int4 { values, scales, group } => {
            let of_rows = |len: usize| vec![shape[0], len / shape[0]];
            let scale = Encoded { dtype: Dtype::F16, shape: of_rows(scales.len()), bytes: f16_bytes(scales) };
            let numbers = [*group].into_iter().chain(shape.iter().copied());
            let bytes = numbers.flat_map(|number| (number as u64).to_le_bytes()).collect();
            let layout = Encoded { dtype: Dtype::I64, shape: vec![1 + shape.len()], bytes };
            let values = Encoded { dtype: Dtype::U8, shape: of_rows(values.len()), bytes: values.clone() };
            vec![(SCALE, scale), (LAYOUT, layout), ("", values)]
        }
    }
}

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn f16_bytes(values: &[f16]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Tensor as stored in the file.
struct Encoded {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for Encoded {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests;
