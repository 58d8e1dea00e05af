//! Memory layout of int4 weights: two values per byte, a scale per group of a row.

use half::f16;

/// Supported numbers of values that share a scale.
pub const GROUPS: [usize; 2] = [32, 64];

/// Packs a row of values in -8..=7, low nibble first.
pub fn pack(row: &[i8]) -> impl Iterator<Item = u8> {
    let nibble = |value: i8| value.cast_unsigned() & 0xf;
    row.chunks(2).map(move |pair| nibble(pair[0]) | pair.get(1).map_or(0, |&high| nibble(high) << 4))
}

/// Unpacks the first `count` values of a row.
pub fn unpack(row: &[u8], count: usize) -> impl Iterator<Item = i8> {
    (0..count).map(|i| (if i % 2 == 0 { row[i / 2] << 4 } else { row[i / 2] }).cast_signed() >> 4)
}

/// Values times scales, for rows of `row` values.
pub(crate) fn widen(row: usize, values: &[u8], scales: &[f16], group: usize) -> Vec<f32> {
    let rows = values.chunks_exact(row.div_ceil(2)).zip(scales.chunks_exact(row.div_ceil(group)));
    rows.flat_map(|(values, scales)| {
        unpack(values, row).enumerate().map(move |(i, v)| f32::from(v) * scales[i / group].to_f32())
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nibbles_are_signed_and_the_low_one_comes_first() {
        assert_eq!(pack(&[1, -1, 7, -8, -3]).collect::<Vec<_>>(), [0xf1, 0x87, 0x0d]);
        let every: Vec<i8> = (-8..=7).collect();
        assert_eq!(unpack(&pack(&every).collect::<Vec<_>>(), 16).collect::<Vec<_>>(), every);
    }
}
