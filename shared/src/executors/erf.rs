//! Rational approximation of the error function without branches, that of Eigen and XLA.

/// Numerator of `erf(x) = x P(x²) / Q(x²)`, coefficients from the highest power on. Error at most 5e-7 for arguments clamped to
/// [`LIMIT`].
pub(super) const P: [f32; 7] =
    [-2.726_142_3e-10, 2.770_681_4e-8, -2.101_024e-6, -5.692_506_4e-5, -7.349_906_3e-4, -2.954_6e-3, -1.609_603_3e-2];

/// Denominator, see [`P`].
pub(super) const Q: [f32; 5] = [-1.456_607_2e-5, -2.133_740_6e-4, -1.682_827e-3, -7.373_329_2e-3, -1.426_473_9e-2];

/// Argument beyond which `erf` differs from one by less than f32's rounding.
pub(super) const LIMIT: f32 = 4.0;

/// Error function, in a form that compilers vectorise.
#[cfg(feature = "candle")]
pub(super) fn erf(x: f32) -> f32 {
    let x = x.clamp(-LIMIT, LIMIT);
    let square = x * x;
    let p = P[1..].iter().fold(P[0], |sum, next| sum * square + next);
    let q = Q[1..].iter().fold(Q[0], |sum, next| sum * square + next);
    x * p / q
}
