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
    // One token, whole and broken tiles of 64, whole and broken chunks of 256. Heads of 64 are read in packs where those lie at
    // aligned addresses, all others value by value.
    let sizes = [(1, 1, 1, 1), (2, 67, 3, 20), (3, 64, 1, 33), (1, 300, 2, 12), (1, 512, 1, 64), (2, 333, 2, 64)];
    let unaligned = [(1, 300, 2, 64)];
    let cases = sizes.map(|size| (size, false)).into_iter().chain(unaligned.map(|size| (size, true)));
    // As in Dinomaly, and an epsilon that shows.
    for (((batch, tokens, heads, size), unaligned), (element, dtype), eps) in
        cases.flat_map(|case| ELEMENTS.map(|element| [0.0, 20.0].map(|eps| (case, element, eps)))).flatten()
    {
        let extents = Heads { batch, tokens, heads, size };
        let width = heads * size;
        // What is stored, in f32: the products' own rounding is not the question.
        let stored = |seed, last| random(seed, &[batch, tokens, last]).to_dtype(dtype).unwrap();
        let (input, weights) = (stored(1, 3 * width), stored(2, width));
        let qkv = Var::from_tensor(&input.to_dtype(DType::F32).unwrap()).unwrap();
        let ops = Candle::train(Device::Cpu, &no_noise);
        let y = ops.linear_attention(&qkv, heads, None, eps).unwrap();
        let expected = gradients(&y, &weights.to_dtype(DType::F32).unwrap(), &[&qkv]);

        let mut machine = if unaligned { Machine::unaligned() } else { Machine::default() };
        let (qkv, grad) = (machine.tensor(&input), machine.tensor(&weights));
        let [out, of_qkv] = [width, 3 * width].map(|last| machine.room(dtype, batch * tokens * last));
        let [sums, of_sums] = [(); 2].map(|()| machine.room(DType::F32, extents.sums()));
        let [totals, of_totals] = [(); 2].map(|()| machine.room(DType::F32, extents.totals()));
        let [inverses, slopes] = [(); 2].map(|()| machine.room(DType::F32, extents.rows()));
        machine.launch([
            linear_attention::key_value_sums(element, [qkv, sums, totals], extents),
            linear_attention::attend(element, [qkv, sums, totals, out], extents, eps as f32),
        ]);
        let buffers = Grad { qkv, grad, sums, totals, inverses, slopes, of_sums, of_totals, out: of_qkv };
        machine.launch(linear_attention::grad(element, &buffers, extents, eps as f32));
        machine.run();
        let name = |what: &str| format!("{what}, {extents:?}, {element:?}, unaligned: {unaligned}, eps {eps}");
        let tolerance = crate::tolerance(element);
        compare(&name("attention"), &machine.read(out, dtype, &[batch, tokens, width]), &y, tolerance);
        // Of a sole token the gradients of query and key are nothing but rounding.
        let found = machine.read(of_qkv, dtype, &[batch, tokens, 3 * width]);
        compare(&name("gradient"), &found, &expected[0], tolerance);
    }
}
