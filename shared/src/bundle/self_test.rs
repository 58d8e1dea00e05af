//! Self-test of a published model: expected score and map of a generated picture, which detect devices that compute wrongly.

use serde::{Deserialize, Serialize};

use crate::photo::decode::Photo;
use crate::{Error, Result};

/// Width of the generated picture in pixels. It differs from the height, so that the geometry is tested too.
const WIDTH: u32 = 192;
/// Height of the generated picture in pixels.
const HEIGHT: u32 = 144;
/// Side of the reduced map in values.
const SIDE: usize = 16;
/// Number of coloured shapes on the picture.
const SHAPES: usize = 14;

/// Expected result of a model on a generated picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelfTest {
    /// Seed of the picture: see [`SelfTest::picture`].
    pub seed: u64,
    /// Expected image score.
    pub score: f32,
    /// Expected anomaly map, reduced by [`SelfTest::reduce`]: `SIDE · SIDE` values, row by row.
    pub map: Vec<f32>,
    /// Largest allowed difference of score and map values on another device.
    pub tolerance: f32,
}

impl SelfTest {
    /// Expected result from the image score and the full, square anomaly map of a trusted device.
    ///
    /// # Errors
    /// [`Error::Config`] if the map is not square or a value is not finite.
    pub fn new(seed: u64, score: f32, map: &[f32], tolerance: f32) -> Result<Self> {
        let self_test = Self { seed, score, map: Self::reduce(map)?, tolerance };
        self_test.validate()?;
        Ok(self_test)
    }

    /// The generated picture: shaded background, noise, coloured rectangles and discs. Computed in integers only, so that it is
    /// the same everywhere. Never one of the user's photos.
    pub fn picture(&self) -> Photo {
        Self::picture_of(self.seed)
    }

    /// [`SelfTest::picture`] for any seed.
    pub fn picture_of(seed: u64) -> Photo {
        picture(seed)
    }

    /// Means of `16 · 16` blocks of a square map.
    ///
    /// # Errors
    /// [`Error::Config`] if the map is not square or empty.
    pub fn reduce(map: &[f32]) -> Result<Vec<f32>> {
        let side = map.len().isqrt();
        if side == 0 || side * side != map.len() {
            return Err(Error::config(format!("self-test: a map of {} values is not square", map.len())));
        }
        let block = |i: usize| {
            let start = i * side / SIDE;
            start..((i + 1) * side / SIDE).max(start + 1)
        };
        let mean = |rows: std::ops::Range<usize>, columns: std::ops::Range<usize>| {
            let count = rows.len() * columns.len();
            let values = rows.flat_map(|y| &map[y * side..][columns.clone()]);
            (values.map(|&v| f64::from(v)).sum::<f64>() / count as f64) as f32
        };
        Ok((0..SIDE).flat_map(|y| (0..SIDE).map(move |x| (y, x))).map(|(y, x)| mean(block(y), block(x))).collect())
    }

    /// Compares the result of `executor` on [`SelfTest::picture`]: score and full, square anomaly map. `rounding` is 0, or
    /// [`INT8_ERROR`](crate::executors::INT8_ERROR) for int8: then the map is compared by its root mean square, not value by value.
    ///
    /// # Errors
    /// [`Error::Device`] if the difference is too large: the device computes wrongly, or too coarsely for this model.
    pub fn compare(&self, executor: &'static str, score: f32, map: &[f32], rounding: f32) -> Result<()> {
        let found = Self::reduce(map)?;
        // False for NaN.
        let agrees = |found: f32, expected: f32, allowed: f32| (found - expected).abs() <= allowed;
        let advice = if rounding > 0.0 { "use a higher precision" } else { "use another device" };
        let refuse = |what: String| {
            Err(Error::Device { executor, reason: format!("fails the model's self-test: {what}; {advice}") })
        };
        let allowed = self.tolerance.max(rounding * self.score.abs());
        if !agrees(score, self.score, allowed) {
            return refuse(format!("score {score}, expected {} ± {allowed}", self.score));
        }
        if rounding > 0.0 {
            let off = root_mean_square(found.iter().zip(&self.map).map(|(found, expected)| found - expected));
            let allowed = self.tolerance.max(rounding * root_mean_square(self.map.iter().copied()));
            if !agrees(off, 0.0, allowed) {
                return refuse(format!("its map is off by {off}, expected at most {allowed}"));
            }
            return Ok(());
        }
        match (0..SIDE * SIDE).find(|&i| !agrees(found[i], self.map[i], self.tolerance)) {
            None => Ok(()),
            Some(i) => refuse(format!(
                "{} at row {} and column {} of the map, expected {} ± {}",
                found[i],
                i / SIDE,
                i % SIDE,
                self.map[i],
                self.tolerance
            )),
        }
    }

    /// Checks that the map is complete and all numbers are finite.
    ///
    /// # Errors
    /// [`Error::Config`] naming the wrong value.
    pub fn validate(&self) -> Result<()> {
        if self.map.len() != SIDE * SIDE {
            return Err(Error::config(format!(
                "self-test: the map has {} values, expected {}",
                self.map.len(),
                SIDE * SIDE
            )));
        }
        if !(self.tolerance.is_finite() && self.tolerance >= 0.0) {
            return Err(Error::config(format!(
                "self-test: tolerance = {} must be finite and not negative",
                self.tolerance
            )));
        }
        match self.map.iter().chain([&self.score]).find(|v| !v.is_finite()) {
            Some(v) => Err(Error::config(format!("self-test: the expected value {v} is not finite"))),
            None => Ok(()),
        }
    }
}

fn root_mean_square(values: impl ExactSizeIterator<Item = f32>) -> f32 {
    let count = values.len() as f64;
    (values.map(|value| f64::from(value).powi(2)).sum::<f64>() / count).sqrt() as f32
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Number in `0..n`. The bias of the remainder does not matter here.
    fn below(&mut self, n: u32) -> i32 {
        (self.next() % u64::from(n)) as i32
    }
}

/// A rectangle or an ellipse in its bounding box.
struct Shape {
    centre: [i32; 2],
    half: [i32; 2],
    round: bool,
    colour: [i32; 3],
}

impl Shape {
    fn random(random: &mut Random) -> Self {
        Self {
            centre: [random.below(WIDTH), random.below(HEIGHT)],
            half: [3 + random.below(WIDTH / 6), 3 + random.below(HEIGHT / 6)],
            round: random.below(2) == 0,
            colour: std::array::from_fn(|_| random.below(256)),
        }
    }

    fn covers(&self, x: i32, y: i32) -> bool {
        let [dx, dy] = [x - self.centre[0], y - self.centre[1]];
        let [a, b] = self.half;
        if self.round { (dx * b).pow(2) + (dy * a).pow(2) <= (a * b).pow(2) } else { dx.abs() <= a && dy.abs() <= b }
    }
}

fn picture(seed: u64) -> Photo {
    let mut random = Random(seed);
    let corners: [[i32; 3]; 3] = std::array::from_fn(|_| std::array::from_fn(|_| 32 + random.below(192)));
    let shapes: Vec<Shape> = (0..SHAPES).map(|_| Shape::random(&mut random)).collect();
    let (width, height) = (WIDTH as i32, HEIGHT as i32);
    let mut rgb = Vec::with_capacity(3 * (WIDTH * HEIGHT) as usize);
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        let top = shapes.iter().rev().find(|shape| shape.covers(x, y));
        for c in 0..3 {
            let ground = || {
                let [origin, right, down] = corners.map(|corner| corner[c]);
                origin + (right - origin) * x / width + (down - origin) * y / height
            };
            let value = top.map_or_else(ground, |shape| shape.colour[c]) + random.below(25) - 12;
            rgb.push(value.clamp(0, 255) as u8);
        }
    }
    Photo { width: WIDTH, height: HEIGHT, rgb }
}

#[cfg(test)]
mod tests {
    use super::super::manifest::sha256;
    use super::*;
    use crate::executors::INT8_ERROR;

    /// A map with something to see.
    fn map(side: usize) -> Vec<f32> {
        (0..side * side).map(|i| ((i * 37) % 101) as f32 / 101.0).collect()
    }

    #[test]
    fn the_picture_never_changes() {
        // Published models depend on it: another hash breaks every one of them.
        for (seed, expected) in [
            (0, "cb4356c99cddacc921cd2a7653f6764a4b315004cc4114ddc931a294c593fe26"),
            (7, "6b2beeb1ebce984490f2beacbdfb8c024610e2ea6f34b1478dd5022a0388b78b"),
        ] {
            let picture = SelfTest::new(seed, 0.0, &map(256), 0.0).unwrap().picture();
            assert_eq!((picture.width, picture.height), (192, 144));
            assert_eq!(sha256(&picture.rgb), expected, "seed {seed}");
        }
    }

    #[test]
    fn blocks_are_means() {
        let reduced = SelfTest::reduce(&map(256)).unwrap();
        assert_eq!(reduced.len(), 256);
        let at = |y: usize, x: usize| f64::from(map(256)[y * 256 + x]);
        let expected = (32..48).flat_map(|y| (80..96).map(move |x| at(y, x))).sum::<f64>() / 256.0;
        assert!((f64::from(reduced[2 * 16 + 5]) - expected).abs() < 1e-7);
        assert_eq!(SelfTest::reduce(&map(16)).unwrap(), map(16));
        assert_eq!(SelfTest::reduce(&[0.5; 9 * 9]).unwrap(), [0.5; 256]);
        for bad in [0, 2, 255] {
            assert!(SelfTest::reduce(&vec![0.0; bad]).is_err(), "{bad} values");
        }
    }

    #[test]
    fn a_device_that_computes_wrongly_is_found() {
        let test = SelfTest::new(1, 0.25, &map(256), 1e-3).unwrap();
        test.compare("webgpu", 0.2505, &map(256), 0.0).unwrap();
        for score in [0.2515, 0.2485, f32::NAN, f32::INFINITY] {
            let error = test.compare("webgpu", score, &map(256), 0.0).unwrap_err().to_string();
            assert!(error.starts_with("webgpu: fails the model's self-test: score"), "{error}");
        }
        for wrong in [0.5, f32::NAN] {
            let mut changed = map(256);
            changed[40 * 256 + 100] += wrong;
            let error = test.compare("webgpu", 0.25, &changed, 0.0).unwrap_err().to_string();
            assert!(error.contains("at row 2 and column 6 of the map"), "{error}");
        }
    }

    /// A part of the whole in place of the tolerance, and no more.
    #[test]
    fn rounding_is_told_from_wrong_results() {
        let test = SelfTest::new(1, 0.25, &map(256), 1e-3).unwrap();
        let compare = |score: f32, map: &[f32]| test.compare("processor", score, map, INT8_ERROR);
        compare(0.25 * 1.029, &map(256)).unwrap();
        let error = compare(0.25 * 1.031, &map(256)).unwrap_err().to_string();
        assert!(error.contains("expected 0.25 ± 0.0075"), "{error}");
        let scaled = |factor: f32| map(256).iter().map(|value| value * factor).collect::<Vec<_>>();
        compare(0.25, &scaled(0.971)).unwrap();
        let error = compare(0.25, &scaled(0.969)).unwrap_err().to_string();
        assert!(error.contains("its map is off by 0.01"), "{error}");
        // One block of 256 that is wrong by the map's whole range, or no number.
        for wrong in [1.0, f32::NAN] {
            let mut changed = map(256);
            (32..48).for_each(|y| changed[y * 256 + 80..][..16].iter_mut().for_each(|value| *value += wrong));
            compare(0.25, &changed).unwrap_err();
        }
    }

    #[test]
    fn expectations_that_are_no_numbers_are_refused() {
        assert!(SelfTest::new(1, f32::NAN, &map(256), 1e-3).is_err());
        assert!(SelfTest::new(1, 0.1, &map(256), f32::NAN).is_err());
        assert!(SelfTest::new(1, 0.1, &[f32::NAN; 256], 1e-3).is_err());
        let short = SelfTest { seed: 1, score: 0.1, map: vec![0.0; 3], tolerance: 0.1 };
        assert!(short.validate().unwrap_err().to_string().contains("the map has 3 values"));
    }
}
