//! Layer norm, bias and GELU.

use candle_core::{DType, Tensor, Var};
use dinomaly_core::executors::candle::fused;
use dinomaly_core::executors::candle::kernels::{Rows, bias, layer_norm, residual, softmax};

use crate::machine::{Machine, is_there};
use crate::{ELEMENTS, compare, gradients, random, tolerance};

const EPS: f32 = 1e-6;

/// Few values; odd ones; more rows than a chunk and a row longer than a block; ViT-S, with more chunks than add_rows has threads a
/// column; ViT-S at addresses where packs of values cannot begin.
const SIZES: [(usize, usize, bool); 5] =
    [(1, 3, false), (5, 13, false), (131, 301, false), (600, 384, false), (70, 384, true)];

fn machine(unaligned: bool) -> Machine {
    if unaligned { Machine::unaligned() } else { Machine::default() }
}

#[test]
fn layer_norm_and_its_gradients() {
    if !is_there() {
        return;
    }
    for ((count, width, unaligned), (element, dtype)) in SIZES.into_iter().flat_map(|size| ELEMENTS.map(|e| (size, e)))
    {
        let rows = Rows { count, width };
        let [x, weight, shift] = [(1, &[count, width][..]), (2, &[width]), (3, &[width])].map(|(s, d)| random(s, d));
        let grad = random(4, &[count, width]).to_dtype(dtype).unwrap();
        let y = fused::layer_norm(&x, &weight, &shift, EPS.into(), dtype).unwrap();
        let expected = gradients(&y, &grad, &[&x, &weight, &shift]);
        let more = random(5, &[count, width]);
        let with_more = (&expected[0] + more.as_tensor()).unwrap();

        let mut machine = machine(unaligned);
        let [x, weight, shift, grad, more] = [&*x, &*weight, &*shift, &grad, &*more].map(|t| machine.tensor(t));
        let out = machine.room(dtype, count * width);
        let [of_x, sum] = [(); 2].map(|()| machine.room(DType::F32, count * width));
        let [moments, chunks, rest] =
            [2 * count, 2 * rows.chunks() * width, 2 * width].map(|n| machine.room(DType::F32, n));
        machine.launch([
            layer_norm::forward(element, [x, weight, shift, out], rows, EPS),
            layer_norm::grad_x(element, [x, weight, grad, of_x], None, rows, EPS),
            layer_norm::grad_x(element, [x, weight, grad, sum], Some(more), rows, EPS),
        ]);
        machine.launch(layer_norm::grad_weight(element, [x, grad, moments, chunks, rest], rows, EPS));
        machine.run();
        let name = |what: &str| format!("{what} of {count} x {width}, {element:?}, unaligned: {unaligned}");
        compare(&name("layer norm"), &machine.read(out, dtype, &[count, width]), &y, tolerance(element));
        let found = machine.read(rest, DType::F32, &[2, width]);
        // Gradients are f32 whatever the result is stored as.
        let noise = 3e-6;
        compare(&name("gradient of x"), &machine.read(of_x, DType::F32, &[count, width]), &expected[0], noise);
        compare(&name("with another"), &machine.read(sum, DType::F32, &[count, width]), &with_more, noise);
        compare(&name("gradient of the weight"), &found.get(0).unwrap(), &expected[1], noise);
        compare(&name("gradient of the bias"), &found.get(1).unwrap(), &expected[2], noise);
    }
}

#[test]
fn softmax_of_scaled_rows() {
    if !is_there() {
        return;
    }
    for ((count, width, _), (element, dtype)) in SIZES.into_iter().flat_map(|size| ELEMENTS.map(|e| (size, e))) {
        let (rows, scale) = (Rows { count, width }, 1.7);
        // Up to 60 after scaling: without the largest taken off, exponentials would be infinite.
        let x = (random(1, &[count, width]).as_tensor() * 18.0).unwrap().to_dtype(dtype).unwrap();
        let expected = fused::softmax(&x, scale.into()).unwrap();
        let mut machine = Machine::default();
        let (from, out) = (machine.tensor(&x), machine.room(dtype, count * width));
        machine.launch([softmax::softmax(element, [from, out], rows, scale)]);
        machine.run();
        let name = format!("softmax of {count} x {width}, {element:?}");
        compare(&name, &machine.read(out, dtype, &[count, width]), &expected, tolerance(element));
    }
}

#[test]
fn bias_and_gelu_and_their_gradients() {
    if !is_there() {
        return;
    }
    for ((count, width, unaligned), (element, dtype)) in SIZES.into_iter().flat_map(|size| ELEMENTS.map(|e| (size, e)))
    {
        let rows = Rows { count, width };
        let x = Var::from_tensor(&random(1, &[count, width]).to_dtype(dtype).unwrap()).unwrap();
        let shift = random(2, &[width]);
        let grad = random(3, &[count, width]).to_dtype(dtype).unwrap();
        let plain = fused::add_bias(&x, &shift).unwrap();
        let gelu = fused::add_bias_gelu(&x, &shift).unwrap();
        let beside = random(4, &[count, width]);
        let summed = fused::add_bias_residual(&x, &shift, &beside).unwrap();
        let of_plain = gradients(&plain, &grad, &[&shift]);
        let of_gelu = gradients(&gelu, &grad, &[&x, &shift]);

        let mut machine = machine(unaligned);
        let [x, shift, grad, beside] = [x.as_tensor(), &shift, &grad, &beside].map(|t: &Tensor| machine.tensor(t));
        let sum = machine.room(DType::F32, count * width);
        let [added, curved, of_x] = [(); 3].map(|()| machine.room(dtype, count * width));
        let [chunks, first, second] = [rows.chunks() * width, width, width].map(|n| machine.room(DType::F32, n));
        machine.launch([
            bias::add_bias(element, [x, shift, added], rows),
            bias::add_bias_gelu(element, [x, shift, curved], rows),
            bias::add_bias_gelu_grad(element, [x, shift, grad, of_x], rows),
            residual::add_bias_residual(element, [x, shift, beside, sum], rows),
        ]);
        machine.launch(bias::column_sum(element, [grad, chunks, first], rows));
        machine.launch(bias::column_sum(element, [of_x, chunks, second], rows));
        machine.run();
        let name = |what: &str| format!("{what} of {count} x {width}, {element:?}, unaligned: {unaligned}");
        let shape = [count, width];
        compare(&name("bias"), &machine.read(added, dtype, &shape), &plain, tolerance(element));
        compare(&name("GELU"), &machine.read(curved, dtype, &shape), &gelu, tolerance(element));
        compare(&name("bias and residual"), &machine.read(sum, DType::F32, &shape), &summed, 3e-6);
        compare(&name("GELU's gradient"), &machine.read(of_x, dtype, &shape), &of_gelu[0], tolerance(element));
        compare(&name("gradient of the bias"), &machine.read(first, DType::F32, &[width]), &of_plain[0], 3e-6);
        let found = machine.read(second, DType::F32, &[width]);
        compare(&name("its gradient below GELU"), &found, &of_gelu[1], tolerance(element));
    }
}
