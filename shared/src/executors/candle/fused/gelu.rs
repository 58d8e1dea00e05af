//! Derivative of GELU, in SIMD.

use rten_simd::ops::{BitOps, NumOps};
use rten_simd::{Isa, SimdUnaryOp};
use rten_vecmath::Exp;

use crate::executors::processor::gelu::NormalCdf;

/// `Φ(x) + x φ(x)`, with the standard normal distribution's Φ and density φ.
pub struct GeluSlope;

impl SimdUnaryOp<f32> for GeluSlope {
    #[inline(always)]
    fn eval<I: Isa>(&self, isa: I, x: I::F32) -> I::F32 {
        const INVERSE_SQRT_TAU: f32 = 0.398_942_3;
        let ops = isa.f32();
        let power = Exp::apply(isa, ops.mul(ops.mul(x, x), ops.splat(-0.5)));
        let weighted = ops.mul(ops.mul(x, ops.splat(INVERSE_SQRT_TAU)), power);
        ops.add(NormalCdf.eval(isa, x), weighted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_exact_one_but_for_rounding() {
        let arguments: Vec<f32> = (-20_000..=20_000).map(|i| i as f32 * 1e-3).chain([-1e20, -0.0, 1e20]).collect();
        let mut found = arguments.clone();
        GeluSlope.map_mut(&mut found);
        for (&x, &found) in arguments.iter().zip(&found) {
            let x_ = f64::from(x);
            let density = (-0.5 * x_ * x_).exp() / std::f64::consts::TAU.sqrt();
            let exact = 0.5 * libm::erfc(-x_ * std::f64::consts::FRAC_1_SQRT_2) + x_ * density;
            let off = (f64::from(found) - exact).abs();
            // Three roundings of values up to 1.13, and those of Φ.
            assert!(off <= 5e-7, "at {x}: {found}, not {exact}");
        }
    }
}
