//! Vectors of four values: simd128 in the browser, with fused multiply-add if the module is compiled for relaxed SIMD; plain loops
//! elsewhere, so that everything built on them can be tested.

#[cfg(not(target_arch = "wasm32"))]
pub use plain::Lanes;
#[cfg(target_arch = "wasm32")]
pub use simd128::Lanes;

/// Two adjacent factors along the depth of a product.
pub type Pair = [i16; 2];

/// 1.5 · 2²³: added to a value, it leaves the rounded value in the sum's last bits.
const WHOLE: f32 = 12_582_912.0;

/// Factor on the left-hand side of a product.
pub trait Factor: Copy + Default + Send + Sync {
    /// Right-hand factors of four columns.
    type Four: Copy + Send + Sync;
    /// Sums of four columns.
    type Sums: Copy;

    /// Packs four right-hand factors.
    fn four(factors: [Self; 4]) -> Self::Four;
    /// Four sums of zero.
    fn zeros() -> Self::Sums;
    /// Adds the products of one left-hand factor with four right-hand ones.
    fn add_products(sums: Self::Sums, left: Self, right: Self::Four) -> Self::Sums;
    /// Sums in single precision.
    fn lanes(sums: Self::Sums) -> Lanes;
}

#[cfg(target_arch = "wasm32")]
mod simd128 {
    use core::arch::wasm32::{
        f32x4_add, f32x4_convert_i32x4, f32x4_mul, f32x4_splat, i16x8_narrow_i32x4, i32x4_add, i32x4_dot_i16x8,
        i32x4_shuffle, i32x4_splat, i32x4_sub, v128,
    };

    use super::{Factor, Pair, WHOLE};

    /// Four values.
    #[derive(Clone, Copy)]
    pub struct Lanes(v128);

    impl Lanes {
        pub fn splat(value: f32) -> Self {
            Self(f32x4_splat(value))
        }

        pub fn new(values: [f32; 4]) -> Self {
            Self(bytemuck::cast(values))
        }

        pub fn values(self) -> [f32; 4] {
            bytemuck::cast(self.0)
        }

        pub fn times(self, other: Self) -> Self {
            Self(f32x4_mul(self.0, other.0))
        }

        pub fn plus(self, other: Self) -> Self {
            Self(f32x4_add(self.0, other.0))
        }

        /// Four neighbours of each of four rows, rounded to whole numbers: the first pairs of all rows, and the second ones.
        pub fn pairs(rows: [Self; 4]) -> [[Pair; 4]; 2] {
            let [a, b, c, d] =
                rows.map(|row| i32x4_sub(row.plus(Self::splat(WHOLE)).0, i32x4_splat(WHOLE.to_bits() as i32)));
            let (ab, cd) = (i16x8_narrow_i32x4(a, b), i16x8_narrow_i32x4(c, d));
            let (first, second) = (i32x4_shuffle::<0, 2, 4, 6>(ab, cd), i32x4_shuffle::<1, 3, 5, 7>(ab, cd));
            [bytemuck::cast(first), bytemuck::cast(second)]
        }
    }

    impl Factor for f32 {
        type Four = Lanes;
        type Sums = Lanes;

        fn four(factors: [f32; 4]) -> Lanes {
            Lanes::new(factors)
        }

        fn zeros() -> Lanes {
            Lanes::splat(0.0)
        }

        #[inline(always)]
        fn add_products(sums: Lanes, left: f32, right: Lanes) -> Lanes {
            #[cfg(target_feature = "relaxed-simd")]
            return Lanes(core::arch::wasm32::f32x4_relaxed_madd(f32x4_splat(left), right.0, sums.0));
            #[cfg(not(target_feature = "relaxed-simd"))]
            sums.plus(Lanes::splat(left).times(right))
        }

        fn lanes(sums: Lanes) -> Lanes {
            sums
        }
    }

    impl Factor for Pair {
        type Four = v128;
        type Sums = v128;

        fn four(factors: [Pair; 4]) -> v128 {
            bytemuck::cast(factors)
        }

        fn zeros() -> v128 {
            i32x4_splat(0)
        }

        #[inline(always)]
        fn add_products(sums: v128, left: Pair, right: v128) -> v128 {
            i32x4_add(sums, i32x4_dot_i16x8(i32x4_splat(bytemuck::cast(left)), right))
        }

        fn lanes(sums: v128) -> Lanes {
            Lanes(f32x4_convert_i32x4(sums))
        }
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod plain {
    use std::array::from_fn;

    use super::{Factor, Pair, WHOLE};

    /// Four values.
    #[derive(Clone, Copy)]
    pub struct Lanes([f32; 4]);

    impl Lanes {
        pub fn splat(value: f32) -> Self {
            Self([value; 4])
        }

        pub fn new(values: [f32; 4]) -> Self {
            Self(values)
        }

        pub fn values(self) -> [f32; 4] {
            self.0
        }

        pub fn times(self, other: Self) -> Self {
            Self(from_fn(|i| self.0[i] * other.0[i]))
        }

        pub fn plus(self, other: Self) -> Self {
            Self(from_fn(|i| self.0[i] + other.0[i]))
        }

        /// Four neighbours of each of four rows, rounded to whole numbers: the first pairs of all rows, and the second ones.
        pub fn pairs(rows: [Self; 4]) -> [[Pair; 4]; 2] {
            let whole = |value: f32| (value + WHOLE).to_bits().wrapping_sub(WHOLE.to_bits()) as i16;
            from_fn(|pair| rows.map(|row| from_fn(|i| whole(row.0[2 * pair + i]))))
        }
    }

    impl Factor for f32 {
        type Four = Lanes;
        type Sums = Lanes;

        fn four(factors: [f32; 4]) -> Lanes {
            Lanes::new(factors)
        }

        fn zeros() -> Lanes {
            Lanes::splat(0.0)
        }

        #[inline(always)]
        fn add_products(sums: Lanes, left: f32, right: Lanes) -> Lanes {
            sums.plus(Lanes::splat(left).times(right))
        }

        fn lanes(sums: Lanes) -> Lanes {
            sums
        }
    }

    impl Factor for Pair {
        type Four = [Pair; 4];
        type Sums = [i32; 4];

        fn four(factors: [Pair; 4]) -> [Pair; 4] {
            factors
        }

        fn zeros() -> [i32; 4] {
            [0; 4]
        }

        #[inline(always)]
        fn add_products(sums: [i32; 4], [a, b]: Pair, right: [Pair; 4]) -> [i32; 4] {
            let product = |x: i16, y: i16| i32::from(x) * i32::from(y);
            from_fn(|i| sums[i] + product(a, right[i][0]) + product(b, right[i][1]))
        }

        fn lanes(sums: [i32; 4]) -> Lanes {
            Lanes(sums.map(|sum| sum as f32))
        }
    }
}
