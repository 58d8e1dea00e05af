use super::*;
use crate::tensor::int4::pack;

/// Tensor with rows of an odd number of values, in two groups.
fn int4() -> HostTensor {
    let values: Vec<i8> = (0..90).map(|i| i % 16 - 8).collect();
    let scales = [0.5, 0.25, 2.0, 0.1].map(f16::from_f32).to_vec();
    HostTensor::int4("b4.weight", &[2, 3, 15], values.chunks(45).flat_map(pack).collect(), scales, 32).unwrap()
}

fn weights() -> Weights {
    let int8 = Data::Int8 { values: vec![-127, 0, 5, 127, 1, -1], scales: vec![0.5, 0.25] };
    Weights(BTreeMap::from([
        ("a".into(), HostTensor::f32([2, 2], vec![1.0, -0.0, f32::MIN_POSITIVE, f32::MAX]).unwrap()),
        ("b.weight".into(), HostTensor { shape: vec![2, 3], data: int8 }),
        ("b4.weight".into(), int4()),
        ("c".into(), HostTensor { shape: vec![3], data: Data::F16([1.0, 0.1, -7.0].map(f16::from_f32).into()) }),
        ("scalar".into(), HostTensor::f32([], vec![4.0]).unwrap()),
    ]))
}

/// File of raw tensors.
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
    let shapes = weights().0.into_iter().map(|(name, tensor)| (name, tensor.shape)).collect();
    assert_eq!(Reader::new("x", &bytes).unwrap().shapes(), shapes);
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
        (vec![("t", Dtype::I8, &[1, 1], &[0]), ("t.scale", Dtype::F16, &[1], &[0; 2])], "tensor t.scale: has type F16"),
        (vec![("t", Dtype::I8, &[1, 1], &[0x80]), ("t.scale", Dtype::F32, &[1], &scale)], "tensor t: value 0 is -128"),
        (vec![("t", Dtype::I8, &[1, 1], &[1]), ("t.scale", Dtype::F32, &[1], &[0; 4])], "tensor t: scale 0 is 0"),
        (vec![("t", Dtype::F16, &[1], &[0, 0x7e])], "tensor t: the value at [0] is NaN"),
    ] {
        let error = refusal(&file(&tensors));
        assert!(error.starts_with("model file shard.safetensors: ") && error.contains(expected), "{error}");
    }
}

#[test]
fn each_part_of_an_int4_tensor_that_does_not_fit_is_named() {
    let layout = |numbers: &[i64]| numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>();
    let [whole, group, sign, cut] =
        [&[32, 2, 5][..], &[48, 2, 5], &[32, 2, -5], &[]].map(|numbers: &[i64]| layout(numbers));
    let ones = f16::ONE.to_le_bytes().repeat(2);
    let values = ("t", Dtype::U8, &[2, 3][..], &[0x0f; 6][..]);
    let scales = ("t.scale", Dtype::F16, &[2, 1][..], &ones[..]);
    let shape = ("t.layout", Dtype::I64, &[3][..], &whole[..]);
    read("x", &file(&[values, scales, shape])).unwrap();
    for (tensors, expected) in [
        (vec![values, shape], "tensor t.scale is missing"),
        (vec![values, scales], "tensor t.layout is missing"),
        (vec![("t", Dtype::U8, &[3, 2], values.3), scales, shape], "tensor t: expected shape [2, 3], found [3, 2]"),
        (vec![values, ("t.scale", Dtype::I16, &[2, 1], &ones), shape], "tensor t.scale: has type I16"),
        (vec![values, ("t.scale", Dtype::F16, &[2], &ones), shape], "tensor t.scale: expected shape [2, 1], found [2]"),
        (vec![values, ("t.scale", Dtype::F16, &[2, 1], &[0; 4]), shape], "tensor t: scale 0 is 0"),
        (vec![values, scales, ("t.layout", Dtype::I64, &[3], &group)], "tensor t.layout: expected the group"),
        (vec![values, scales, ("t.layout", Dtype::I64, &[3], &sign)], "tensor t.layout: expected the group"),
        (vec![values, scales, ("t.layout", Dtype::I64, &[0], &cut)], "tensor t.layout: expected the group"),
        (vec![values, scales, ("t.layout", Dtype::F64, &[3], &whole)], "tensor t.layout: has type F64"),
        (vec![("t", Dtype::U8, &[2, 3], &[0x1f; 6]), scales, shape], "tensor t: row 0 ends with an unused nibble"),
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
        assert!(error.starts_with("model file shard.safetensors: not a complete safetensors file"), "{error}");
    }
    let unknown = String::from_utf8_lossy(&bytes).replace("\"I8\"", "\"I3\"");
    assert!(refusal(unknown.as_bytes()).contains("I3"), "{}", refusal(unknown.as_bytes()));
}

#[test]
fn writing_refuses_what_could_not_be_read() {
    for name in ["b.weight.scale", "b4.weight.scale", "b4.weight.layout"] {
        let mut twice = weights();
        twice.0.insert(name.into(), HostTensor::f32([1], vec![1.0]).unwrap());
        assert!(write(&twice, None).unwrap_err().to_string().contains(&format!("tensor {name}")));
    }
    let mut nan = weights();
    nan.0.insert("n".into(), HostTensor::f32([1], vec![f32::NAN]).unwrap());
    assert!(write(&nan, None).unwrap_err().to_string().contains("tensor n"));
}
