//! GELU.

use std::f32::consts::FRAC_1_SQRT_2;

use rten_simd::ops::{BitOps, FloatOps, NumOps};
use rten_simd::{Isa, SimdUnaryOp};

use crate::executors::erf;

/// `x Φ(x)` with the error function of [`erf`]. rten-vecmath's GELU uses an exponential, and makes an int8 photo take 3 % longer in
/// the browser.
pub struct Gelu;

/// Numerator of `Φ(x) = ½ + x P(x²) / Q(x²)`.
const P: [f32; 7] = of_half_a_square(erf::P, 0.5 * FRAC_1_SQRT_2);
const Q: [f32; 5] = of_half_a_square(erf::Q, 1.0);

/// Converts coefficients of powers of `x² / 2` to those of powers of `x²`, times a factor.
const fn of_half_a_square<const N: usize>(mut coefficients: [f32; N], mut factor: f32) -> [f32; N] {
    let mut i = N;
    while i > 0 {
        i -= 1;
        coefficients[i] *= factor;
        factor *= 0.5;
    }
    coefficients
}

impl SimdUnaryOp<f32> for Gelu {
    #[inline(always)]
    fn eval<I: Isa>(&self, isa: I, x: I::F32) -> I::F32 {
        isa.f32().mul(x, NormalCdf.eval(isa, x))
    }
}

/// `Φ(x)`, the cumulative distribution function of the standard normal distribution.
pub struct NormalCdf;

impl SimdUnaryOp<f32> for NormalCdf {
    #[inline(always)]
    fn eval<I: Isa>(&self, isa: I, x: I::F32) -> I::F32 {
        let ops = isa.f32();
        let limit = ops.splat(erf::LIMIT / FRAC_1_SQRT_2);
        let limited = ops.clamp(x, ops.neg(limit), limit);
        let square = ops.mul(limited, limited);
        // Loops, because closures would be compiled without this function's SIMD instructions.
        let (mut p, mut q) = (ops.splat(P[0]), ops.splat(Q[0]));
        for &coefficient in &P[1..] {
            p = ops.mul_add(p, square, ops.splat(coefficient));
        }
        for &coefficient in &Q[1..] {
            q = ops.mul_add(q, square, ops.splat(coefficient));
        }
        ops.add(ops.div(ops.mul(limited, p), q), ops.splat(0.5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_exact_one_but_for_rounding() {
        let arguments: Vec<f32> =
            (-20_000..=20_000).map(|i| i as f32 * 1e-3).chain([-88.0, -0.0, 1e-30, 88.0]).collect();
        let mut found = arguments.clone();
        Gelu.map_mut(&mut found);
        for (&x, &found) in arguments.iter().zip(&found) {
            let x_ = f64::from(x);
            let exact = 0.5 * x_ * libm::erfc(-x_ * std::f64::consts::FRAC_1_SQRT_2);
            let off = (f64::from(found) - exact).abs();
            assert!(off <= 3e-7 * x_.abs(), "gelu({x}) = {found}, not {exact}");
        }
        let mut none = [f32::NAN];
        Gelu.map_mut(&mut none);
        assert!(none[0].is_nan());
    }
}
