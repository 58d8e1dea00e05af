//! safetensors bytes ↔ [`Weights`].
//!
//! F32 and F16 stay what they are, BF16 is widened to F32. An int8 tensor is an I8 tensor `name [out, …]` beside a
//! F32 tensor `name.scale [out]`: ordinary safetensors that any other reader can open. The same weights always give
//! the same bytes, whatever order they were put in.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use half::{bf16, f16};
use safetensors::tensor::{Metadata, TensorView, View};
use safetensors::{Dtype, SafeTensors};

use crate::tensor::{Data, HostTensor};
use crate::weights::{Shapes, Weights};
use crate::{Error, Result};

/// Ends the name of the tensor that holds an int8 tensor's scales.
const SCALE: &str = ".scale";

/// A parsed safetensors file, whose tensors are read when they are asked for.
#[derive(Debug)]
pub struct Reader<'a> {
    file: &'a str,
    tensors: SafeTensors<'a>,
    header: Metadata,
}

impl<'a> Reader<'a> {
    /// Parses the header of `bytes`; `file` is for messages only.
    ///
    /// # Errors
    /// [`Error::Model`] if this is no whole safetensors file.
    pub fn new(file: &'a str, bytes: &'a [u8]) -> Result<Self> {
        let refuse = |e| {
            let reason = format!("not a whole safetensors file ({e}): it is truncated, altered or of another format");
            Error::Model { file: file.into(), reason }
        };
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(refuse)?;
        let tensors = SafeTensors::deserialize(bytes).map_err(refuse)?;
        Ok(Self { file, tensors, header })
    }

    /// Names and shapes of the tensors; the scales of int8 tensors belong to them and are not listed.
    pub fn shapes(&self) -> Shapes {
        let tensors = self.tensors.iter().filter(|(name, _)| !self.is_scale(name));
        tensors.map(|(name, view)| (name.to_owned(), view.shape().to_vec())).collect()
    }

    /// A value of the header's `__metadata__`.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.header.metadata().as_ref()?.get(key).map(String::as_str)
    }

    /// Reads a tensor.
    ///
    /// # Errors
    /// [`Error::Model`] naming file and tensor: there is none of this name, it is of a type that is not understood,
    /// or its scales are missing or misshapen.
    pub fn tensor(&self, name: &str) -> Result<HostTensor> {
        self.decode(name).map_err(|e| e.in_file(self.file))
    }

    fn is_scale(&self, name: &str) -> bool {
        name.strip_suffix(SCALE).is_some_and(|base| self.header.info(base).is_some_and(|i| i.dtype == Dtype::I8))
    }

    fn view(&self, name: &str) -> Result<TensorView<'a>> {
        self.tensors.tensor(name).map_err(|_| Error::MissingTensor { name: name.into(), found: self.tensors.len() })
    }

    fn decode(&self, name: &str) -> Result<HostTensor> {
        let view = self.view(name)?;
        let bytes = view.data();
        let data = match view.dtype() {
            Dtype::F32 => Data::F32(read_f32(bytes)),
            Dtype::F16 => Data::F16(bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]])).collect()),
            Dtype::BF16 => {
                Data::F32(bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect())
            }
            Dtype::I8 => self.decode_int8(name, view.shape(), bytes)?,
            other => {
                let reason = format!("has type {other}, only F32, F16, BF16 and I8 are understood");
                return Err(Error::Tensor { name: name.into(), reason });
            }
        };
        Ok(HostTensor { shape: view.shape().to_vec(), data })
    }

    fn decode_int8(&self, name: &str, shape: &[usize], bytes: &[u8]) -> Result<Data> {
        let scale_name = format!("{name}{SCALE}");
        let scale = self.view(&scale_name)?;
        let refuse = |name: &str, reason: String| Err(Error::Tensor { name: name.into(), reason });
        if scale.dtype() != Dtype::F32 {
            return refuse(&scale_name, format!("has type {}, scales are F32", scale.dtype()));
        }
        let rows = shape.first().copied().unwrap_or(0);
        if scale.shape() != [rows] {
            return Err(Error::Shape { name: scale_name, expected: vec![rows], found: scale.shape().to_vec() });
        }
        let values: Vec<i8> = bytes.iter().map(|&b| b.cast_signed()).collect();
        if let Some(i) = values.iter().position(|&v| v == i8::MIN) {
            return refuse(name, format!("value {i} is -128, symmetric int8 goes from -127 to 127"));
        }
        Ok(Data::Int8 { values, scales: read_f32(scale.data()) })
    }
}

fn read_f32(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

/// Reads every tensor of a safetensors file; `file` is for messages only.
///
/// # Errors
/// As [`Reader::new`] and [`Reader::tensor`]; also for a value that is no finite number, by tensor and index.
pub fn read(file: &str, bytes: &[u8]) -> Result<Weights> {
    let reader = Reader::new(file, bytes)?;
    let tensors = reader.shapes().into_keys().map(|name| Ok((name.clone(), reader.tensor(&name)?)));
    let weights = Weights(tensors.collect::<Result<_>>()?);
    weights.check_finite().map_err(|e| e.in_file(file))?;
    Ok(weights)
}

/// Writes a safetensors file, with at most one entry of `__metadata__` (several would be written in no fixed order).
///
/// # Errors
/// [`Error::Tensor`] for a name that is needed twice, or for a value that is no finite number.
pub fn write(weights: &Weights, metadata: Option<(&str, &str)>) -> Result<Vec<u8>> {
    weights.check_finite()?;
    let mut encoded = BTreeMap::new();
    for (name, tensor) in &weights.0 {
        let (dtype, bytes) = match &tensor.data {
            Data::F32(values) => (Dtype::F32, f32_bytes(values)),
            Data::F16(values) => (Dtype::F16, values.iter().flat_map(|v| v.to_le_bytes()).collect()),
            Data::Int8 { values, scales } => {
                let scale = Encoded { dtype: Dtype::F32, shape: vec![scales.len()], bytes: f32_bytes(scales) };
                encoded.insert(format!("{name}{SCALE}"), scale);
                (Dtype::I8, values.iter().map(|v| v.cast_unsigned()).collect())
            }
        };
        encoded.insert(name.clone(), Encoded { dtype, shape: tensor.shape.clone(), bytes });
    }
    let scales = weights.0.values().filter(|t| matches!(t.data, Data::Int8 { .. })).count();
    if encoded.len() != weights.0.len() + scales {
        let reason = "a tensor of this name is also an int8 tensor's scale".into();
        let name = weights.0.keys().find(|name| name.ends_with(SCALE)).cloned().unwrap_or_default();
        return Err(Error::Tensor { name, reason });
    }
    let metadata = metadata.map(|(key, value)| HashMap::from([(key.to_owned(), value.to_owned())]));
    safetensors::serialize(encoded, metadata)
        .map_err(|e| Error::Tensor { name: "(all)".into(), reason: format!("cannot be written as safetensors: {e}") })
}

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// A tensor as it lies in the file.
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
mod tests {
    use super::*;

    fn weights() -> Weights {
        let int8 = Data::Int8 { values: vec![-127, 0, 5, 127, 1, -1], scales: vec![0.5, 0.25] };
        Weights(BTreeMap::from([
            ("a".into(), HostTensor::f32([2, 2], vec![1.0, -0.0, f32::MIN_POSITIVE, f32::MAX]).unwrap()),
            ("b.weight".into(), HostTensor { shape: vec![2, 3], data: int8 }),
            ("c".into(), HostTensor { shape: vec![3], data: Data::F16([1.0, 0.1, -7.0].map(f16::from_f32).into()) }),
            ("scalar".into(), HostTensor::f32([], vec![4.0]).unwrap()),
        ]))
    }

    /// A file of one tensor of raw bytes.
    fn file(tensors: &[(&str, Dtype, &[usize], &[u8])]) -> Vec<u8> {
        let encode = |&(name, dtype, shape, bytes): &(&str, Dtype, &[usize], &[u8])| {
            (name.to_owned(), Encoded { dtype, shape: shape.to_vec(), bytes: bytes.to_vec() })
        };
        safetensors::serialize(tensors.iter().map(encode), None).unwrap()
    }

    fn refusal(bytes: &[u8]) -> String {
        read("shard.safetensors", bytes).unwrap_err().to_string()
    }

    #[test]
    fn what_was_written_is_read() {
        let bytes = write(&weights(), Some(("note", "words"))).unwrap();
        assert_eq!(read("x", &bytes).unwrap(), weights());
        assert_eq!(Reader::new("x", &bytes).unwrap().metadata("note"), Some("words"));
        assert_eq!(Reader::new("x", &bytes).unwrap().metadata("other"), None);
    }

    #[test]
    fn equal_weights_give_equal_bytes() {
        let reordered = Weights(weights().0.into_iter().rev().collect());
        let first = write(&weights(), None).unwrap();
        for _ in 0..8 {
            assert_eq!(write(&reordered, None).unwrap(), first);
        }
    }

    #[test]
    fn bf16_is_widened() {
        let bytes = [bf16::from_f32(1.5), bf16::from_f32(-3.0)].map(bf16::to_le_bytes).concat();
        let read = read("x", &file(&[("t", Dtype::BF16, &[2], &bytes)])).unwrap();
        assert_eq!(read.0["t"].data, Data::F32(vec![1.5, -3.0]));
    }

    #[test]
    fn every_refusal_names_file_and_tensor() {
        let scale = 1.0_f32.to_le_bytes();
        for (tensors, expected) in [
            (vec![("t", Dtype::I64, &[1][..], &[0; 8][..])], "tensor t: has type I64"),
            (vec![("t", Dtype::I8, &[1, 2], &[0; 2])], "tensor t.scale is missing"),
            (
                vec![("t", Dtype::I8, &[2, 1], &[0; 2]), ("t.scale", Dtype::F32, &[1], &scale)],
                "tensor t.scale: expected shape [2], found [1]",
            ),
            (
                vec![("t", Dtype::I8, &[1, 1], &[0]), ("t.scale", Dtype::F16, &[1], &[0; 2])],
                "tensor t.scale: has type F16",
            ),
            (
                vec![("t", Dtype::I8, &[1, 1], &[0x80]), ("t.scale", Dtype::F32, &[1], &scale)],
                "tensor t: value 0 is -128",
            ),
            (vec![("t", Dtype::I8, &[1, 1], &[1]), ("t.scale", Dtype::F32, &[1], &[0; 4])], "tensor t: scale 0 is 0"),
            (vec![("t", Dtype::F16, &[1], &[0, 0x7e])], "tensor t: the value at [0] is NaN"),
        ] {
            let error = refusal(&file(&tensors));
            assert!(error.starts_with("model file shard.safetensors: ") && error.contains(expected), "{error}");
        }
    }

    #[test]
    fn damaged_files_are_refused() {
        let bytes = write(&weights(), None).unwrap();
        for damaged in [&bytes[..bytes.len() - 1], &bytes[..20], &bytes[..5], b"", b"<html>not found</html>"] {
            let error = refusal(damaged);
            assert!(error.starts_with("model file shard.safetensors: not a whole safetensors file"), "{error}");
        }
        let unknown = String::from_utf8_lossy(&bytes).replace("\"I8\"", "\"I3\"");
        assert!(refusal(unknown.as_bytes()).contains("I3"), "{}", refusal(unknown.as_bytes()));
    }

    #[test]
    fn writing_refuses_what_could_not_be_read() {
        let mut twice = weights();
        twice.0.insert("b.weight.scale".into(), HostTensor::f32([1], vec![1.0]).unwrap());
        assert!(write(&twice, None).unwrap_err().to_string().contains("tensor b.weight.scale"));
        let mut nan = weights();
        nan.0.insert("n".into(), HostTensor::f32([1], vec![f32::NAN]).unwrap());
        assert!(write(&nan, None).unwrap_err().to_string().contains("tensor n"));
    }
}
