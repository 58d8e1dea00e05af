//! Every operation on every executor, on the same random inputs of awkward sizes: odd, not multiples of a vec4 or of a
//! tile, a single token, several photos. The reference sums in f64; what it is compared with rounds like f32.
//!
//! Tolerances are relative to the largest value of the result, and ten times the largest difference measured over all
//! cases, seeds and executors (candle on x86-64, WebGPU on lavapipe), which each test prints: linear layers 1.2e-6 (the sum
//! of 1536 products), layer norm 4.9e-7, attention 1.5e-6, linear attention 6.2e-7, mean and cosine distance 1.2e-7, which
//! is one rounding; an embedding is one addition, and exact.

use dinomaly_core::maps::score::MapBorder;
use dinomaly_core::maps::score::MapLayout;
use dinomaly_core::ops::{Neighbours, RelativeBias};
use dinomaly_core::photo::decode::Photo;
use dinomaly_core::photo::preprocess::{Geometry, Preprocessor, Resized};
use dinomaly_core::tensor::{Data, HostTensor};
use dinomaly_tests::executors::{After, Op, reference};
use half::f16;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::compare::{check, random, scaled};

#[test]
fn photos() {
    check("photos", 0.0, |generator| {
        // Photos, patches on a side, pixels on a side of a patch.
        let sizes = [[1_u32, 1, 1], [2, 3, 5], [3, 2, 7], [1, 28, 14], [2, 4, 16]];
        let cases = sizes.into_iter().flat_map(|[photos, grid, patch]| {
            let crop = grid * patch;
            let mut photo = |width: u32| {
                let rgb = (0..3 * width * 9).map(|_| generator.random_range(0..=255)).collect();
                Photo { width, height: 9, rgb }
            };
            let photos = (0..photos).map(|i| photo(9 + i)).collect::<Vec<_>>();
            let bytes = Preprocessor::imagenet(Geometry { resize: crop as usize, crop: crop as usize });
            [bytes.clone(), Preprocessor { resized: Resized::Floats, ..bytes }].map(|preprocessor| {
                let cut = photos.iter().map(|photo| preprocessor.cut(photo)).collect();
                Op::Photos { cut, preprocessor, patch: patch as usize }
            })
        });
        cases.collect()
    });
}

/// Batch, tokens, inputs, outputs.
const LINEAR: [[usize; 4]; 9] = [
    [1, 1, 1, 1],
    [2, 3, 5, 7],
    [1, 1, 48, 144],
    [1, 64, 64, 64],
    [3, 23, 130, 65],
    [2, 33, 588, 96],
    [1, 197, 192, 130],
    [1, 70, 1536, 67],
    [5, 1, 16, 259],
];

fn linear(generator: &mut ChaCha8Rng, then: impl Fn(&mut ChaCha8Rng, &[usize]) -> After) -> Vec<Op> {
    let cases = LINEAR.into_iter().map(|[batch, tokens, inputs, outputs]| {
        let bound = 2.0 * (inputs as f32).powf(-0.5);
        Op::Linear {
            x: random(generator, &[batch, tokens, inputs]),
            weight: scaled(random(generator, &[outputs, inputs]), bound, 0.0),
            bias: Some(random(generator, &[outputs])),
            then: then(generator, &[batch, tokens, outputs]),
        }
    });
    cases.collect()
}

#[test]
fn linear_store() {
    check("linear", 1e-5, |generator| linear(generator, |_, _| After::Store));
}

#[test]
fn linear_gelu() {
    check("linear, GELU", 1e-5, |generator| linear(generator, |_, _| After::Gelu));
}

#[test]
fn linear_add() {
    check("linear, add", 1e-5, |generator| linear(generator, |generator, shape| After::Add(random(generator, shape))));
}

#[test]
fn linear_without_bias() {
    check("linear without bias", 1e-5, |generator| {
        let mut cases = linear(generator, |_, _| After::Store);
        cases.extend(linear(generator, |_, _| After::Gelu));
        cases.extend(linear(generator, |generator, shape| After::Add(random(generator, shape))));
        for op in &mut cases {
            let Op::Linear { bias, .. } = op else { unreachable!() };
            *bias = None;
        }
        cases
    });
}

#[test]
fn linear_with_quantized_and_half_weights() {
    check("linear, int8 and f16", 1e-5, |generator| {
        let mut cases = linear(generator, |_, _| After::Gelu);
        for (i, op) in cases.iter_mut().enumerate() {
            let Op::Linear { weight, .. } = op else { unreachable!() };
            let outputs = weight.shape[0];
            weight.data = if i % 4 == 3 {
                Data::F16(weight.to_f32().iter().copied().map(f16::from_f32).collect())
            } else {
                Data::Int8 {
                    values: (0..weight.len()).map(|_| generator.random_range(-127..=127)).collect(),
                    scales: (0..outputs).map(|_| generator.random_range(0.0001..0.002)).collect(),
                }
            };
        }
        cases
    });
}

#[test]
fn layer_norm() {
    check("layer norm", 5e-6, |generator| {
        // The last one needs more workgroups than a dispatch has in one dimension.
        let sizes = [[1, 1, 1], [2, 3, 3], [1, 1, 384], [3, 5, 48], [2, 7, 257], [1, 140000, 6]];
        let cases = sizes.into_iter().flat_map(|shape| {
            let x = random(generator, &shape);
            let weight = scaled(random(generator, &shape[2..]), 0.5, 1.0);
            let bias = random(generator, &shape[2..]);
            [(1e-6, 1.0, 0.0), (1e-8, 3.0, 1.0), (1e-8, 0.01, 0.0)].map(|(eps, factor, offset)| Op::LayerNorm {
                x: scaled(x.clone(), factor, offset),
                weight: weight.clone(),
                bias: bias.clone(),
                eps,
            })
        });
        cases.collect()
    });
}

/// Batch, tokens, heads, channels of a head. Those of 127 channels pad the result's rows beyond the head's last block.
const HEADS: [[usize; 4]; 13] = [
    [1, 1, 1, 1],
    [2, 1, 3, 16],
    [1, 5, 5, 7],
    [2, 33, 3, 16],
    [1, 70, 2, 24],
    [1, 32, 1, 32],
    [1, 65, 3, 43],
    [2, 40, 2, 64],
    [1, 197, 3, 64],
    [1, 50, 1, 65],
    [1, 34, 3, 127],
    [1, 20, 2, 128],
    [1, 37, 1, 131],
];

fn packed(generator: &mut ChaCha8Rng, op: impl Fn(HostTensor, usize) -> Op) -> Vec<Op> {
    let cases = HEADS.into_iter().map(|[batch, tokens, heads, size]| {
        // Logits of some size, so that the softmax has peaks.
        op(scaled(random(generator, &[batch, tokens, 3 * heads * size]), 3.0, 0.0), heads)
    });
    cases.collect()
}

#[test]
fn attention() {
    check("attention", 1.5e-5, |generator| packed(generator, |qkv, heads| Op::Attention { qkv, heads, hidden: None }));
}

#[test]
fn linear_attention() {
    check("linear attention", 6e-6, |generator| {
        packed(generator, |qkv, heads| Op::LinearAttention { qkv, heads, hidden: None, eps: 0.0 })
    });
}

/// Queries and keys of which `phi` is about e⁻¹⁰, so that the epsilon is as large as the normaliser. Of every second token it is zero,
/// and without an epsilon the result would be no number.
#[test]
fn linear_attention_with_an_epsilon() {
    let small = |qkv: HostTensor, heads: usize, eps: f64| {
        let (shape, packed) = (qkv.shape.clone(), qkv.shape[2]);
        let mut values = qkv.to_f32().to_vec();
        for (token, row) in values.chunks_exact_mut(packed).enumerate() {
            let offset = if token % 2 == 0 { -10.0 } else { -2000.0 };
            row[..packed / 3 * 2].iter_mut().for_each(|value| *value += offset);
        }
        Op::LinearAttention { qkv: HostTensor::f32(shape, values).unwrap(), heads, hidden: None, eps }
    };
    check("linear attention with an epsilon", 6e-6, |generator| {
        packed(generator, |qkv, heads| Op::LinearAttention { qkv, heads, hidden: None, eps: 5.0 })
    });
    // candle's composed form adds 1 to elu, as torch does, and so has few digits here: 9e-4, the others 6e-7.
    check("linear attention with a small normaliser", 9e-3, |generator| {
        packed(generator, |qkv, heads| small(qkv, heads, 1e-8))
    });
    let qkv = random(&mut ChaCha8Rng::seed_from_u64(1), &[1, 9, 12]);
    let run = |eps| reference().run(&small(qkv.clone(), 1, eps));
    let (without, with) = (run(0.0), run(1e-8));
    assert!(without.iter().any(|v| v.is_nan()) && with.iter().all(|v| v.is_finite()), "{without:?} {with:?}");
    assert!((with[0] / without[0] - 1.0).abs() > 0.1, "{without:?} {with:?}");
}

#[test]
fn linear_attention_without_neighbours_with_an_epsilon() {
    check("linear attention without neighbours, with an epsilon", 3e-5, |generator| {
        windowed(generator, |qkv, heads, hidden| Op::LinearAttention { qkv, heads, hidden: Some(hidden), eps: 0.5 })
    });
}

#[test]
fn recentre() {
    check("recentring", 5e-6, |generator| {
        let sizes = [[1, 1, 1], [2, 3, 3], [1, 5, 384], [3, 5, 48], [2, 7, 257]];
        let cases = sizes.into_iter().flat_map(|shape| {
            let x = random(generator, &shape);
            [None, Some(1e-8), Some(0.1)].map(|eps| Op::Recentre { x: x.clone(), eps })
        });
        cases.collect()
    });
}

/// Prefix tokens, grid, reach, heads, channels of a head. Windows are cut at the border, and once cover the whole grid.
const WINDOWS: [[usize; 5]; 7] = [
    [1, 1, 1, 1, 3],
    [1, 3, 0, 2, 16],
    [5, 7, 1, 3, 16],
    [0, 9, 2, 1, 7],
    [5, 6, 3, 2, 65],
    [2, 4, 9, 1, 32],
    [0, 14, 1, 3, 64],
];

fn windowed(generator: &mut ChaCha8Rng, op: impl Fn(HostTensor, usize, Neighbours) -> Op) -> Vec<Op> {
    let cases = WINDOWS.into_iter().map(|[prefix, grid, reach, heads, size]| {
        let qkv = random(generator, &[2, prefix + grid * grid, 3 * heads * size]);
        op(scaled(qkv, 3.0, 0.0), heads, Neighbours { prefix, reach })
    });
    cases.collect()
}

#[test]
fn attention_without_neighbours() {
    check("attention without neighbours", 1.5e-5, |generator| {
        windowed(generator, |qkv, heads, hidden| Op::Attention { qkv, heads, hidden: Some(hidden) })
    });
}

/// WebGPU subtracts the hidden keys from the sum of all, and what remains after 31 of 36 rounds as the whole did.
#[test]
fn linear_attention_without_neighbours() {
    check("linear attention without neighbours", 3e-5, |generator| {
        windowed(generator, |qkv, heads, hidden| Op::LinearAttention { qkv, heads, hidden: Some(hidden), eps: 0.0 })
    });
}

#[test]
fn attention_with_a_position_bias() {
    check("attention with a position bias", 1.5e-5, |generator| {
        // Batch, grid, heads, channels of a head.
        let sizes = [[1, 1, 1, 1], [2, 2, 3, 16], [1, 3, 5, 7], [2, 7, 2, 24], [1, 8, 3, 43], [2, 6, 2, 65]];
        let cases = sizes.into_iter().map(|[batch, grid, heads, size]| Op::BiasedAttention {
            qkv: scaled(random(generator, &[batch, 1 + grid * grid, 3 * heads * size]), 3.0, 0.0),
            heads,
            bias: scaled(random(generator, &[heads, RelativeBias::entries(grid)]), 2.0, 0.0),
        });
        cases.collect()
    });
}

#[test]
fn rotate() {
    check("rotation", 1.2e-6, |generator| {
        // Batch, tokens before the patches, patches, heads, channels of a head.
        let sizes = [[1, 0, 1, 1, 4], [2, 5, 9, 3, 8], [1, 1, 49, 2, 64], [3, 5, 16, 1, 12], [2, 2, 7, 3, 6]];
        let cases = sizes.into_iter().map(|[batch, prefix, patches, heads, size]| {
            let angles: Vec<f32> = random(generator, &[patches, size / 2]).to_f32().iter().map(|a| 9.0 * a).collect();
            let row = |row: &[f32]| row.iter().map(|a| a.cos()).chain(row.iter().map(|a| a.sin())).collect::<Vec<_>>();
            let rotation = angles.chunks_exact(size / 2).flat_map(row).collect();
            Op::Rotate {
                qkv: random(generator, &[batch, prefix + patches, 3 * heads * size]),
                heads,
                rotation: HostTensor::f32([patches, size], rotation).unwrap(),
            }
        });
        cases.collect()
    });
}

#[test]
fn swiglu() {
    check("SwiGLU", 3e-6, |generator| {
        let sizes = [[1, 9, 2], [2, 3, 10], [3, 50, 128], [1, 197, 342], [2, 7, 8]];
        let factors = [1.0, 10.0, 200.0];
        let cases =
            sizes.into_iter().flat_map(|shape| factors.map(|f| Op::Swiglu(scaled(random(generator, &shape), f, 0.0))));
        cases.collect()
    });
}

#[test]
fn depthwise_conv() {
    check("depthwise convolution", 6e-6, |generator| {
        // Batch, grid, channels, side of the kernels: also wider than the grid.
        let sizes = [[1, 1, 1, 3], [2, 3, 5, 1], [1, 7, 96, 7], [2, 5, 66, 5], [1, 2, 4, 7], [3, 14, 8, 3]];
        let cases = sizes.into_iter().map(|[batch, grid, channels, side]| Op::DepthwiseConv {
            x: random(generator, &[batch, grid * grid, channels]),
            weight: random(generator, &[channels, 1, side, side]),
        });
        cases.collect()
    });
}

#[test]
fn drop_tokens_and_concatenate() {
    check("copies", 0.0, |generator| {
        let sizes = [[1, 2, 1, 1], [2, 9, 5, 7], [3, 50, 1, 48]];
        let dropped = sizes.map(|[batch, tokens, first, channels]| Op::DropTokens {
            x: random(generator, &[batch, tokens, channels]),
            first,
        });
        let joined = [[1, 1, 1, 1], [2, 5, 7, 3], [3, 17, 48, 4]].map(|[batch, tokens, channels, count]| {
            Op::Concatenate((0..count).map(|_| random(generator, &[batch, tokens, channels])).collect())
        });
        dropped.into_iter().chain(joined).collect()
    });
}

#[test]
fn mean_token() {
    check("mean token", 2.0e-6, |generator| {
        let sizes = [[1, 1, 0, 1], [2, 9, 5, 7], [3, 50, 1, 48], [1, 787, 3, 130], [2, 66, 65, 5]];
        let cases = sizes.map(|[batch, tokens, first, channels]| Op::MeanToken {
            x: random(generator, &[batch, tokens, channels]),
            first,
        });
        cases.into()
    });
}

#[test]
fn embed() {
    check("embed", 1.2e-6, |generator| {
        // Batch, patches, prefix tokens, channels.
        let sizes = [[1, 1, 1, 1], [2, 9, 5, 7], [3, 49, 1, 48], [1, 300, 5, 65]];
        let cases = sizes.into_iter().map(|[batch, patches, prefix, channels]| Op::Embed {
            patches: random(generator, &[batch, patches, channels]),
            prefix: random(generator, &[prefix, channels]),
            positions: random(generator, &[patches, channels]),
        });
        cases.collect()
    });
}

#[test]
fn mean() {
    check("mean", 1.2e-6, |generator| {
        (1..=9).map(|n| Op::Mean((0..n).map(|_| random(generator, &[2, 4 + n, 17])).collect())).collect()
    });
}

#[test]
fn cosine_distance() {
    check("cosine distance", 1.2e-6, |generator| {
        let sizes = [[1, 1, 1], [2, 3, 5], [1, 1, 384], [3, 50, 130], [1, 33000, 3]];
        let mut cases: Vec<Op> = sizes
            .iter()
            .map(|shape| Op::CosineDistance { a: random(generator, shape), b: random(generator, shape) })
            .collect();
        let (a, zero) = (random(generator, &[2, 3, 65]), HostTensor::f32([2, 3, 65], vec![0.0; 390]).unwrap());
        // Below the norm that is clamped.
        let tiny = scaled(random(generator, &[2, 3, 65]), 1e-10, 0.0);
        cases.extend([
            Op::CosineDistance { a: a.clone(), b: zero },
            Op::CosineDistance { a: a.clone(), b: tiny },
            Op::CosineDistance { a: a.clone(), b: scaled(a, -2.0, 0.0) },
        ]);
        cases
    });
}

#[test]
fn maps() {
    check("anomaly maps", 5e-6, |generator| {
        // Photos, groups, tokens before the patches, grid, side of the encoder's picture.
        let sizes = [[1, 1, 0, 1, 14], [2, 2, 1, 3, 48], [3, 5, 5, 7, 49], [1, 2, 5, 28, 392], [2, 3, 0, 37, 518]];
        let cases = sizes.into_iter().flat_map(|[photos, groups, prefix, grid, input_side]| {
            let distances = |_| scaled(random(generator, &[photos, prefix + grid * grid]), 0.7, 0.7);
            let groups: Vec<_> = (0..groups).map(distances).collect();
            [MapBorder::Zero, MapBorder::Reflect].map(|border| Op::Maps {
                groups: groups.clone(),
                layout: MapLayout { prefix, grid, input_side, border },
            })
        });
        cases.collect()
    });
}
