use std::collections::BTreeMap;

use super::*;

fn int8(name: &str, tensor: &HostTensor) -> Result<HostTensor> {
    round_tensor(name, tensor, Format::Int8)
}

fn tensor(shape: &[usize], values: &[f32]) -> HostTensor {
    HostTensor::f32(shape, values.to_vec()).unwrap()
}

#[test]
fn each_row_has_its_own_scale_and_halves_round_away_from_zero() {
    let source = tensor(&[3, 4], &[127.0, -2.5, 2.5, 0.4, -0.001, 0.0005, 0.0, 0.001, 0.0, 0.0, 0.0, -0.0]);
    let quantized = int8("w", &source).unwrap();
    let Data::Int8 { values, scales } = &quantized.data else { panic!("not int8") };
    assert_eq!(values, &[127, -3, 3, 0, -127, 64, 0, 127, 0, 0, 0, 0]);
    assert_eq!(scales, &[1.0, 0.001 / 127.0, 1.0]);
    assert_eq!(quantized.shape, [3, 4]);
}

#[test]
fn a_lone_large_value_is_cut_off_where_that_rounds_the_others_better() {
    // Ten thousand values between -1 and 1 and one a little beyond: a finer step for all against one cut.
    let mut row: Vec<f32> = (0..10_000).map(|i| (i as f32 * 0.618_034).fract() * 2.0 - 1.0).collect();
    row.push(1.05);
    let Data::Int8 { scales, .. } = int8("w", &tensor(&[1, 10_001], &row)).unwrap().data else { panic!("not int8") };
    assert!(scales[0] < 0.99 * 1.05 / 127.0, "{}", scales[0]);
    let error = |scale: f32| -> f32 { row.iter().map(|&v| (Grid::int8(1).round(v, scale) * scale - v).powi(2)).sum() };
    assert!(error(scales[0]) < error(1.05 / 127.0));
}

#[test]
fn no_value_moves_by_more_than_half_a_step_for_large_and_tiny_weights() {
    for most in [1e38, 1.0, 1e-30, 3e-44, f32::from_bits(1)] {
        let source = tensor(&[1, 5], &[most, -most, most * 0.37, most * -0.9, 0.0]);
        let back = int8("w", &source).unwrap();
        back.to_f32().iter().zip(source.to_f32().iter()).for_each(|(b, s)| {
            // Below about 1e-36 the scale itself is rounded coarsely.
            let step = (most / 127.0).max(1e-38);
            assert!((b - s).abs() <= 0.5001 * step, "{s:e} became {b:e}");
        });
    }
}

#[test]
fn only_linear_weights_are_quantized_and_the_report_says_what_was_lost() {
    let weights = Weights(BTreeMap::from([
        ("encoder.blocks.0.norm1.weight".into(), tensor(&[2], &[0.3, 0.7])),
        ("encoder.blocks.0.mlp.fc1.weight".into(), tensor(&[2, 2], &[0.3, 0.7, -1.0, 0.001])),
        ("encoder.blocks.0.mlp.fc1.bias".into(), tensor(&[2], &[0.3, 0.7])),
        ("encoder.cls_token".into(), tensor(&[1, 1, 2], &[0.3, 0.7])),
        ("encoder.patch_embed.proj.weight".into(), tensor(&[2, 1, 1, 2], &[0.3, 0.7, 0.0, 0.0])),
        ("encoder.pos_embed".into(), tensor(&[1, 1, 2], &[0.3, 0.7])),
    ]));
    let (quantized, report) = quantize(&weights).unwrap();
    let names: Vec<&str> = report.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["encoder.blocks.0.mlp.fc1.weight", "encoder.patch_embed.proj.weight"]);
    for (name, tensor) in &quantized.0 {
        assert_eq!(matches!(tensor.data, Data::Int8 { .. }), names.contains(&name.as_str()), "{name}");
    }
    let widened = dequantize(&quantized);
    for rounding in &report {
        let (before, after) = (weights.0[&rounding.name].to_f32(), widened.0[&rounding.name].to_f32());
        let largest = before.iter().zip(after.iter()).map(|(b, a)| (a - b).abs()).fold(0.0, f32::max);
        assert_eq!(rounding.largest, largest);
        assert!(rounding.relative > 0.0 && rounding.relative < 0.01, "{rounding:?}");
    }
    assert_eq!(quantize(&quantized).unwrap(), (quantized, Vec::new()));
}

#[test]
fn what_cannot_be_quantized_is_named() {
    let nan = tensor(&[1, 2], &[0.0, f32::NAN]);
    assert!(int8("w", &nan).unwrap_err().to_string().contains("tensor w: the value at [0, 1] is NaN"));
    assert!(int8("v", &tensor(&[2], &[1.0, 2.0])).unwrap_err().to_string().contains("tensor v: shape [2]"));
    assert!(int8("e", &tensor(&[0, 2], &[])).unwrap_err().to_string().contains("tensor e"));
}

#[test]
fn int4_groups_have_scales_of_their_own_in_half_precision() {
    // Two groups, the second a thousandth of the first and 3 values long.
    let row: Vec<f32> = (0..35).map(|i| (i % 16 - 8) as f32 * if i < 32 { 0.1 } else { 0.0001 }).collect();
    let quantized = round_tensor("w", &tensor(&[1, 5, 7], &row), Format::Int4).unwrap();
    let Data::Int4 { values, scales, group } = &quantized.data else { panic!("not int4") };
    assert_eq!((quantized.shape.as_slice(), values.len(), *group), (&[1, 5, 7][..], 18, 32));
    assert_eq!(values[..4], [0x98, 0xba, 0xdc, 0xfe], "-8 is a value, too");
    assert_eq!(scales[0], f16::from_f32(0.1));
    for (rounded, value) in quantized.to_f32().iter().zip(&row) {
        // A step of half the scale, and the scale's own rounding.
        let scale = if value.abs() > 0.001 { 0.1 } else { 0.0001 };
        assert!((rounded - value).abs() <= 0.51 * scale, "{value} became {rounded}");
    }
    let huge = round_tensor("w", &tensor(&[1, 2], &[1e6, 0.0]), Format::Int4).unwrap_err().to_string();
    assert!(huge.contains("tensor w: scale 0 is inf"), "{huge}");
}

#[test]
fn f16_rounds_halves_to_even_and_refuses_what_it_cannot_hold() {
    // Beside 1 the step is 2^-10.
    let step = 2f32.powi(-10);
    let source = tensor(&[1, 4], &[1.0 + 0.5 * step, 1.0 + 1.5 * step, 1.0 + 0.51 * step, 1e-9]);
    let rounded = round_tensor("w", &source, Format::F16).unwrap();
    assert_eq!(*rounded.to_f32(), [1.0, 1.0 + 2.0 * step, 1.0 + step, 0.0]);
    let error = round_tensor("w", &tensor(&[1, 2], &[65504.0, -65520.0]), Format::F16).unwrap_err().to_string();
    assert!(error.contains("tensor w: the value at [0, 1] is -65520, more than the largest of f16, 65504"), "{error}");
}

#[test]
fn tables_become_f16_beside_int4_and_vectors_stay_as_they_are() {
    for (format, table, weight) in [
        (Format::Int8, None, Some(Format::Int8)),
        (Format::Int4, Some(Format::F16), Some(Format::Int4)),
        (Format::F16, Some(Format::F16), Some(Format::F16)),
    ] {
        assert_eq!(format.of("encoder.pos_embed", &[1, 5, 4]), table);
        assert_eq!(format.of("decoder.0.mlp.fc1.weight", &[8, 4]), weight);
        assert_eq!(format.of("decoder.0.norm1.weight", &[4]), None);
    }
}

fn noise(i: usize) -> f32 {
    ((i as f32 * 12.9898).sin() * 43758.547).fract() - 0.5
}

/// Inputs whose channels vary together around means of their own, as activations do.
fn inputs(channels: usize, rows: usize) -> Vec<f32> {
    let value = |row: usize, channel: usize| {
        let common = noise(7000 + row) + noise(9000 + row * 5 + channel % 5);
        noise(500 + channel) + common + noise(row * channels + channel) * 0.3
    };
    (0..rows * channels).map(|i| value(i / channels, i % channels)).collect()
}

/// Second moments of inputs and the one after each.
fn moments(x: &[f32], channels: usize) -> HostTensor {
    let (side, rows) = (channels + 1, (x.len() / channels) as f32);
    let mut second = vec![0.0; side * side];
    for row in x.chunks(channels) {
        let row = [row, &[1.0]].concat();
        second.iter_mut().enumerate().for_each(|(at, sum)| *sum += row[at / side] * row[at % side] / rows);
    }
    tensor(&[side, side], &second)
}

/// By how much each output of a layer differs for each input.
fn differences(x: &[f32], weight: [&HostTensor; 2], bias: [&HostTensor; 2]) -> Vec<f32> {
    let [weight, bias] = [weight, bias].map(|[before, after]| -> Vec<f32> {
        before.to_f32().iter().zip(after.to_f32().iter()).map(|(before, after)| after - before).collect()
    });
    let channels = weight.len() / bias.len();
    let dot = |x: &[f32], w: &[f32]| x.iter().zip(w).map(|(x, w)| x * w).sum::<f32>();
    x.chunks(channels).flat_map(|x| weight.chunks(channels).zip(&bias).map(move |(w, b)| dot(x, w) + b)).collect()
}

#[test]
fn with_moments_the_outputs_are_nearer_though_the_weights_are_not() {
    let (channels, outputs) = (48, 16);
    let x = inputs(channels, 400);
    let mut moments = moments(&x, channels);
    let weight = tensor(&[outputs, channels], &(0..outputs * channels).map(|i| noise(90_000 + i)).collect::<Vec<_>>());
    let bias = tensor(&[outputs], &(0..outputs).map(|i| noise(80_000 + i)).collect::<Vec<_>>());
    let of_outputs = |rounded: &HostTensor, after: &HostTensor| -> f32 {
        differences(&x, [&weight, rounded], [&bias, after]).iter().map(|d| d * d).sum()
    };
    for format in [Format::Int8, Format::Int4] {
        let plain = round_tensor("w", &weight, format).unwrap();
        let (spared, none) = round_layer("w", &weight, None, format, Some(&moments)).unwrap();
        assert_eq!(none, None);
        let (with_bias, after) = round_layer("w", &weight, Some(&bias), format, Some(&moments)).unwrap();
        let after = after.unwrap();
        let [before, without, with] =
            [of_outputs(&plain, &bias), of_outputs(&spared, &bias), of_outputs(&with_bias, &after)];
        assert!(without < 0.4 * before, "{format:?}: {before} without, {without} with moments");
        assert!(with < 0.95 * without, "{format:?}: {without} where the bias stays, {with} where it does not");
        assert!(compare("w", &weight, &spared).relative > compare("w", &weight, &plain).relative, "{format:?}");

        // What the bias takes up is the mean error, all of it.
        let errors = differences(&x, [&weight, &with_bias], [&bias, &after]);
        for output in 0..outputs {
            let of_one: Vec<f32> = errors.iter().skip(output).step_by(outputs).copied().collect();
            let mean = of_one.iter().sum::<f32>() / of_one.len() as f32;
            let size = (of_one.iter().map(|d| d * d).sum::<f32>() / of_one.len() as f32).sqrt();
            assert!(mean.abs() < 1e-3 * size, "{format:?}, output {output}: errors of {size} have mean {mean}");
        }
    }
    let round = |moments: &HostTensor| round_layer("w", &weight, Some(&bias), Format::Int4, Some(moments)).unwrap_err();
    let error = round(&tensor(&[2, 2], &[1.0; 4])).to_string();
    assert!(error.contains("moments of the inputs of w: expected shape [49, 49], found [2, 2]"), "{error}");
    let Data::F32(second) = &mut moments.data else { panic!("not f32") };
    second[0] = -100.0;
    assert!(round(&moments).to_string().contains("tensor w: the second moments of its inputs"), "{}", round(&moments));
}

/// The bias of a layer without moments stays, in its own type, too.
#[test]
fn biases_change_where_moments_are_known() {
    let x = inputs(8, 50);
    let weight = tensor(&[2, 8], &(0..16).map(noise).collect::<Vec<_>>());
    let half = round_tensor("bias", &tensor(&[1, 2], &[0.3, 0.7]), Format::F16).unwrap();
    let bias = HostTensor { shape: vec![2], ..half };
    let layer = |name: &str| [(format!("{name}.weight"), weight.clone()), (format!("{name}.bias"), bias.clone())];
    let weights = Weights([layer("a"), layer("b")].into_iter().flatten().collect());
    let known = InputMoments::from([("a.weight".to_owned(), moments(&x, 8))]);
    let (rounded, report) = quantize_to(&weights, Format::Int4, &known).unwrap();
    assert_eq!(report.len(), 2);
    assert_eq!(rounded.0["b.bias"], bias);
    let (expected, after) = round_layer("a", &weight, Some(&bias), Format::Int4, Some(&known["a.weight"])).unwrap();
    assert_eq!((&rounded.0["a.weight"], Some(&rounded.0["a.bias"])), (&expected, after.as_ref()));
    assert!(matches!(rounded.0["a.bias"].data, Data::F32(_)) && rounded.0["a.bias"].to_f32() != bias.to_f32());
}
