//! How int4 weights lie in memory: each row two values to a byte, with a scale for every group of it.

use half::f16;

use crate::Error;
use crate::Result;
use crate::tensor::{Data, HostTensor};

/// How many values of a row may share a scale.
pub const GROUPS: [usize; 2] = [32, 64];

impl HostTensor {
    /// A weight `[out, in…]` of signed four-bit values: `values` holds `ceil(in / 2)` bytes a row, low nibble first, `scales`
    /// `ceil(in / group)` of each row. `name` is for messages only.
    ///
    /// # Errors
    /// [`Error::Tensor`] if there are no rows, `group` is none of [`GROUPS`], bytes or scales are too few or too many, or the
    /// unused nibble of an odd row is not zero.
    pub fn int4(name: &str, shape: &[usize], values: Vec<u8>, scales: Vec<f16>, group: usize) -> Result<Self> {
        let refuse = |reason: String| Err(Error::Tensor { name: name.into(), reason });
        let len: usize = shape.iter().product();
        if shape.len() < 2 || len == 0 {
            return refuse(format!("shape {shape:?} has no rows, int4 weights are [out, in…]"));
        }
        if !GROUPS.contains(&group) {
            return refuse(format!("groups of {group} values share a scale, expected 32 or 64"));
        }
        let (rows, row) = (shape[0], len / shape[0]);
        for (what, expected, found) in
            [("bytes", row.div_ceil(2), values.len()), ("scales", row.div_ceil(group), scales.len())]
        {
            if rows * expected != found {
                return refuse(format!("shape {shape:?} needs {} {what} of int4, found {found}", rows * expected));
            }
        }
        if row % 2 == 1 {
            let mut last = values.iter().skip(row / 2).step_by(row.div_ceil(2));
            if let Some(i) = last.position(|byte| byte >> 4 != 0) {
                return refuse(format!("row {i} ends with a nibble that belongs to no value and is not zero"));
            }
        }
        Ok(Self { shape: shape.to_vec(), data: Data::Int4 { values, scales, group } })
    }
}

/// Packs the values of a row, each in -8..=7, low nibble first.
pub fn pack(row: &[i8]) -> impl Iterator<Item = u8> {
    let nibble = |value: i8| value.cast_unsigned() & 0xf;
    row.chunks(2).map(move |pair| nibble(pair[0]) | pair.get(1).map_or(0, |&high| nibble(high) << 4))
}

/// The first `count` values of a packed row.
pub fn unpack(row: &[u8], count: usize) -> impl Iterator<Item = i8> {
    (0..count).map(|i| (if i % 2 == 0 { row[i / 2] << 4 } else { row[i / 2] }).cast_signed() >> 4)
}

/// Values times scales, of rows of `row` values.
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

    #[test]
    fn each_group_of_a_row_has_its_scale() {
        // Rows of 5 · 7 values: 18 bytes, a group of 32 and one of 3.
        let values: Vec<i8> = (0..70).map(|i| (i % 16) - 8).collect();
        let packed = values.chunks(35).flat_map(pack).collect();
        let scales = [1.0, 0.5, 2.0, 0.25].map(f16::from_f32).to_vec();
        let tensor = HostTensor::int4("w", &[2, 5, 7], packed, scales, 32).unwrap();
        let scale = |i: usize| [[1.0, 0.5], [2.0, 0.25]][i / 35][i % 35 / 32];
        let expected: Vec<f32> = (0..70).map(|i| f32::from(values[i]) * scale(i)).collect();
        assert_eq!(*tensor.to_f32(), expected);
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let one = f16::ONE;
        for (shape, bytes, scales, group, expected) in [
            (&[4][..], 2, 1, 32, "tensor w: shape [4] has no rows"),
            (&[0, 4], 0, 0, 32, "tensor w: shape [0, 4] has no rows"),
            (&[2, 40], 40, 4, 48, "tensor w: groups of 48"),
            (&[2, 5], 5, 2, 32, "tensor w: shape [2, 5] needs 6 bytes of int4, found 5"),
            (&[2, 40], 40, 2, 32, "tensor w: shape [2, 40] needs 4 scales of int4, found 2"),
            (&[2, 40], 40, 4, 64, "tensor w: shape [2, 40] needs 2 scales of int4, found 4"),
        ] {
            let error = HostTensor::int4("w", shape, vec![0; bytes], vec![one; scales], group).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let error = HostTensor::int4("w", &[2, 3], vec![0x11, 0x01, 0x11, 0x11], vec![one; 2], 32).unwrap_err();
        assert!(error.to_string().contains("tensor w: row 1 ends with a nibble"), "{error}");
    }
}
