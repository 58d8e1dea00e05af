//! Linear attention against candle's products.

use candle_core::{DType, Device, Var};
use dinomaly_core::executors::candle::kernels::linear_attention::{self, Grad, Heads};
use dinomaly_core::executors::candle::{Candle, no_noise};
use dinomaly_core::ops::Ops;

use crate::machine::{Machine, is_there};
use crate::{ELEMENTS, compare, gradients, random};

#[test]
fn linear_attention_and_its_gradient() {
    if !is_there() {
        return;
    }
    let sizes = [(1, 1, 1, 1), (2, 67, 3, 20), (1, 130, 2, 64), (3, 64, 1, 33)];
    for ((batch, tokens, heads, size), (element, dtype)) in sizes.into_iter().flat_map(|s| ELEMENTS.map(|e| (s, e))) {
        let extents = Heads { batch, tokens, heads, size };
        let width = heads * size;
        // What is stored, in f32: the products' own rounding is not the question.
        let stored = |seed, last| random(seed, &[batch, tokens, last]).to_dtype(dtype).unwrap();
        let (input, weights) = (stored(1, 3 * width), stored(2, width));
        let qkv = Var::from_tensor(&input.to_dtype(DType::F32).unwrap()).unwrap();
        let ops = Candle::train(Device::Cpu, &no_noise);
        let y = ops.linear_attention(&qkv, heads, None).unwrap();
        let expected = gradients(&y, &weights.to_dtype(DType::F32).unwrap(), &[&qkv]);

        let mut machine = Machine::default();
        let (qkv, grad) = (machine.tensor(&input), machine.tensor(&weights));
        let [out, of_qkv] = [width, 3 * width].map(|last| machine.room(dtype, batch * tokens * last));
        let counts = [extents.sums(), extents.totals(), batch * tokens * width, batch * heads * tokens];
        let [sums, totals, divided, of_normaliser] = counts.map(|count| machine.room(DType::F32, count));
        machine.launch(linear_attention::forward(element, [qkv, sums, totals, out], extents));
        let buffers = Grad { qkv, grad, sums, totals, divided, of_normaliser, out: of_qkv };
        machine.launch(linear_attention::grad(element, &buffers, extents));
        machine.run();
        let name = |what: &str| format!("{what}, {extents:?}, {element:?}");
        let tolerance = crate::tolerance(element);
        compare(&name("attention"), &machine.read(out, dtype, &[batch, tokens, width]), &y, tolerance);
        // Of a sole token the gradients of query and key are nothing but rounding.
        let found = machine.read(of_qkv, dtype, &[batch, tokens, 3 * width]);
        compare(&name("gradient"), &found, &expected[0], tolerance);
    }
}
