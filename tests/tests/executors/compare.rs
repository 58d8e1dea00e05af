//! One operation with the same random inputs on every executor, against the reference.

use std::collections::BTreeMap;

use dinomaly_core::tensor::HostTensor;
use dinomaly_tests::executors::{Op, others, reference};
use dinomaly_tests::max_difference;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const SEEDS: [u64; 2] = [1, 2];

/// Values in -1..1.
pub fn random(generator: &mut ChaCha8Rng, shape: &[usize]) -> HostTensor {
    let values = (0..shape.iter().product()).map(|_| generator.random_range(-1.0..1.0)).collect();
    HostTensor::f32(shape, values).unwrap()
}

/// Each value times a factor, plus an offset.
pub fn scaled(tensor: HostTensor, factor: f32, offset: f32) -> HostTensor {
    HostTensor::f32(tensor.shape.clone(), tensor.to_f32().iter().map(|v| factor * v + offset).collect()).unwrap()
}

/// Runs all cases and checks each result against the reference's.
pub fn check(what: &str, tolerance: f32, cases: impl Fn(&mut ChaCha8Rng) -> Vec<Op>) {
    let (reference, others) = (reference(), others());
    let mut worst: BTreeMap<&str, f32> = BTreeMap::new();
    let mut compared = 0;
    for seed in SEEDS {
        for op in cases(&mut ChaCha8Rng::seed_from_u64(seed)) {
            let expected = reference.run(&op);
            let largest = expected.iter().fold(0f32, |largest, v| largest.max(v.abs()));
            for other in &others {
                let difference = max_difference(&other.run(&op), &expected) / largest.max(f32::MIN_POSITIVE);
                assert!(
                    difference <= tolerance,
                    "{what} on {}: relative difference {difference:e}, tolerance {tolerance:e}, {}",
                    other.name,
                    shapes(&op)
                );
                let worst = worst.entry(other.name).or_default();
                *worst = worst.max(difference);
                compared += 1;
            }
        }
    }
    let worst: Vec<String> = worst.iter().map(|(name, difference)| format!("{name} {difference:.1e}")).collect();
    println!("{what}: {compared} tensors compared, tolerance {tolerance:e}, largest differences: {}", worst.join(", "));
}

fn shapes(op: &Op) -> String {
    match op {
        Op::Photos { cut, patch, .. } => format!("{} of {} bytes, patches of {patch}", cut.len(), cut[0].len()),
        Op::Linear { x, weight, .. } => format!("x {:?}, weight {:?}", x.shape, weight.shape),
        Op::LayerNorm { x, eps, .. } => format!("x {:?}, eps {eps:e}", x.shape),
        Op::Attention { qkv, heads, hidden } => format!("qkv {:?}, {heads} heads, hidden {hidden:?}", qkv.shape),
        Op::LinearAttention { qkv, heads, hidden, eps } => {
            format!("qkv {:?}, {heads} heads, hidden {hidden:?}, eps {eps:e}", qkv.shape)
        }
        Op::Recentre { x, eps } => format!("{:?}, eps {eps:?}", x.shape),
        Op::BiasedAttention { qkv, heads, bias } => {
            format!("qkv {:?}, {heads} heads, bias {:?}", qkv.shape, bias.shape)
        }
        Op::Rotate { qkv, heads, rotation } => {
            format!("qkv {:?}, {heads} heads, rotation {:?}", qkv.shape, rotation.shape)
        }
        Op::Swiglu(x) => format!("{:?}", x.shape),
        Op::DepthwiseConv { x, weight } => format!("x {:?}, kernels {:?}", x.shape, weight.shape),
        Op::DropTokens { x, first } | Op::MeanToken { x, first } => format!("{:?} from {first} on", x.shape),
        Op::Concatenate(xs) => format!("{} of {:?}", xs.len(), xs[0].shape),
        Op::Embed { patches, prefix, .. } => format!("patches {:?}, prefix {:?}", patches.shape, prefix.shape),
        Op::Mean(xs) => format!("{} of {:?}", xs.len(), xs[0].shape),
        Op::CosineDistance { a, .. } => format!("{:?}", a.shape),
        Op::Normalize(x) => format!("{:?}", x.shape),
        Op::Nearest { cosines, so_far } => format!("{:?}, resumed: {}", cosines.shape, so_far.is_some()),
        Op::SquaredNorms { x, parts } => format!("{:?} in {parts} parts", x.shape),
        Op::Choose { x, prototypes, .. } => format!("{:?}, prototypes {:?}", x.shape, prototypes.shape),
        Op::TopRows { x, rows, k } => format!("{k} of rows {:?}, x {:?}", rows.shape, x.shape),
        Op::NearestAround { x, rows, chosen, places, so_far } => format!(
            "x {:?}, rows {:?}, chosen {:?}, {places:?}, resumed: {}",
            x.shape,
            rows.shape,
            chosen.shape,
            so_far.is_some()
        ),
        Op::Maps { groups, layout } => format!("{} of {:?}, {layout:?}", groups.len(), groups[0].shape),
    }
}
