//! Floats of eight bits, as PyTorch and safetensors store them: both are exact in f16.

use half::f16;

/// `float8_e4m3fn`: sign, four bits of exponent (bias 7), three of fraction; no infinities, one NaN.
pub fn e4m3(bits: u8) -> f16 {
    let sign = if bits & 0x80 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 3 & 0x0F), f32::from(bits & 0x07));
    f16::from_f32(match (exponent, bits & 0x07) {
        (15, 7) => f32::NAN,
        (0, _) => sign * fraction * 2f32.powi(-9),
        _ => sign * (1.0 + fraction / 8.0) * 2f32.powi(exponent - 7),
    })
}

/// `float8_e5m2`: the first byte of an f16.
pub fn e5m2(bits: u8) -> f16 {
    f16::from_bits(u16::from(bits) << 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values by torch 2.15's `tensor.view(torch.float8_e4m3fn).float()`, and of the other type.
    #[test]
    fn values_are_those_of_torch() {
        for (bits, expected) in [
            (0x00, 0.0),
            (0x01, 0.001_953_125),
            (0x07, 0.013_671_875),
            (0x08, 0.015_625),
            (0x38, 1.0),
            (0xBC, -1.5),
            (0x7E, 448.0),
        ] {
            assert_eq!(e4m3(bits).to_f32(), expected, "{bits:#x}");
        }
        for (bits, expected) in [(0x00, 0.0), (0x01, 1.525_878_9e-5), (0x3C, 1.0), (0xC2, -3.0), (0x7B, 57_344.0)] {
            assert_eq!(e5m2(bits).to_f32(), expected, "{bits:#x}");
        }
        assert!([e4m3(0x7F), e4m3(0xFF), e5m2(0x7F)].iter().all(|value| value.is_nan()));
        assert!(e5m2(0x7C).is_infinite());
    }
}
