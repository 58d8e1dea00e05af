//! The CUDA kernels on the processor against the operations' own forms for it, gradients included.
//!
//! What this shows: the kernels' arithmetic, and the launches that the CUDA executor makes; writes up to 4 KiB beyond a buffer, and
//! reads there whose NaN reaches a result; missing barriers, where a result depends on them when threads take turns in the two
//! orders of `host.h`. What it cannot show: other orders, blocks that run at once, accesses beyond an array in shared memory or
//! before it was written (it is zero at first and kept from block to block), and that kernels run, and how fast, on a GPU.

mod attention; // linear attention against candle's products
mod compile; // NVIDIA's compiler takes every kernel, where it is at hand
mod loss; // the hard-mining loss
mod machine; // no test: a processor that runs the kernels, compiled as C++
mod names; // kernels are looked up by the names that they have
mod noise; // dropout drops the same values
mod optimizer; // StableAdamW's step over many tensors
mod rows; // layer norm, softmax, bias and GELU

use candle_core::{DType, Device, Tensor, Var};
use dinomaly_core::executors::candle::kernels::Element;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Both ways of storing activations.
const ELEMENTS: [(Element, DType); 2] = [(Element::F32, DType::F32), (Element::Bf16, DType::BF16)];

/// A variable of values between -2 and 2.
fn random(seed: u64, shape: &[usize]) -> Var {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let values = (0..shape.iter().product()).map(|_| 4.0 * generator.random::<f32>() - 2.0).collect::<Vec<_>>();
    Var::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// The gradient of a variable in a linear function of `y` with these weights: what flows back into `y` is the weights.
fn gradients(y: &Tensor, weights: &Tensor, of: &[&Var]) -> Vec<Tensor> {
    let store = (y * weights).unwrap().sum_all().unwrap().backward().unwrap();
    of.iter().map(|v| store.get(v).unwrap().clone()).collect()
}

/// Compares relative to the largest expected value.
fn compare(name: &str, found: &Tensor, expected: &Tensor, tolerance: f32) {
    assert_eq!(found.dims(), expected.dims(), "{name}");
    let values = |t: &Tensor| t.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (found, expected) = (values(found), values(expected));
    let largest = expected.iter().fold(0f32, |largest, v| largest.max(v.abs()));
    dinomaly_tests::assert_close(name, &found, &expected, tolerance * largest);
}

/// Float noise of sums of up to 1,000 terms, or a rounding to eight bits, which may fall to either side of a tie.
fn tolerance(element: Element) -> f32 {
    match element {
        Element::F32 => 3e-6,
        Element::Bf16 => 1.0 / 128.0,
    }
}
