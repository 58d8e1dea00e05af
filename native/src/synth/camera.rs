//! The camera: focus, uneven illumination, white balance, exposure, sensor noise, 8 bits.

use image::RgbImage;

use super::dice::Dice;
use super::draw::{Colour, Vec2, vec2};
use super::filter::blur;
use super::noise::scramble;

/// Camera settings of one photo.
#[derive(Clone, Debug)]
pub struct Camera {
    /// Standard deviation of the blur in 1/256 of the picture's width.
    pub blur: f32,
    /// Factor on the light.
    pub exposure: f32,
    /// Factor on each channel.
    pub balance: Colour,
    /// Relative change of the illumination across the picture.
    pub gradient: Vec2,
    /// Relative loss of light in the corners.
    pub vignette: f32,
    /// Standard deviation of the noise in 8-bit levels.
    pub noise: f32,
    /// Seed of the noise.
    pub seed: u32,
}

impl Camera {
    /// An industrial camera: nearly the same from photo to photo, never quite.
    pub fn cell(dice: &mut Dice) -> Self {
        let warm = dice.spread(0.06);
        Self {
            blur: dice.range(0.35, 0.75),
            exposure: dice.range(0.8, 1.25),
            balance: [1.0 + warm, 1.0 + dice.spread(0.02), 1.0 - warm],
            gradient: Vec2::polar(dice.range(0.0, 0.35), dice.angle()),
            vignette: dice.range(0.05, 0.3),
            noise: dice.range(0.8, 2.2),
            seed: dice.bits(),
        }
    }

    /// Any camera, from sharp and clean to blurred and noisy.
    pub fn any(dice: &mut Dice) -> Self {
        let blur = if dice.chance(0.2) { dice.range(0.8, 2.5) } else { dice.range(0.2, 0.8) };
        let noise = if dice.chance(0.2) { dice.range(2.0, 9.0) } else { dice.range(0.0, 2.0) };
        let cast = if dice.chance(0.3) { 0.25 } else { 0.06 };
        Self {
            blur,
            exposure: dice.range(0.5, 1.7),
            balance: dice.tint([1.0; 3], cast),
            gradient: Vec2::polar(dice.range(0.0, 0.7), dice.angle()),
            vignette: dice.range(0.0, 0.6),
            noise,
            seed: dice.bits(),
        }
    }

    /// The photo of `light` (linear, row by row, `size`×`size`).
    pub fn develop(&self, mut light: Vec<Colour>, size: usize) -> RgbImage {
        blur(&mut light, size, self.blur * size as f32 / 256.0);
        let mut bytes = Vec::with_capacity(3 * light.len());
        for (i, colour) in light.iter().enumerate() {
            let p = vec2((i % size) as f32 + 0.5, (i / size) as f32 + 0.5) * (1.0 / size as f32) - vec2(0.5, 0.5);
            let illumination = (1.0 + self.gradient.dot(p)) * (1.0 - 2.0 * self.vignette * p.dot(p)) * self.exposure;
            let random = scramble((i % size) as i32, (i / size) as i32, self.seed);
            // Bytes of one hash: nearly normal noise common to the channels, a little of each channel's own.
            let byte = |k: u32| (random >> (8 * k) & 0xff) as f32 - 127.5;
            let common = (byte(0) + byte(1) + byte(2) + byte(3)) * (0.9 / 147.8);
            for (c, (value, balance)) in colour.iter().zip(self.balance).enumerate() {
                let x = (value * illumination * balance).max(0.0);
                // A soft shoulder instead of clipping, then gamma 2 and a little contrast.
                let tone = (x * (1.0 + x * 0.16) / (1.0 + x * 0.8)).sqrt();
                let level = 255.0 * tone * (1.0 + 0.5 * (1.0 - tone) * (2.0 * tone - 1.0));
                let grain = (common + byte(c as u32) * (0.4 / 73.9)) * self.noise;
                bytes.push((level + grain + 0.5) as u8);
            }
        }
        RgbImage::from_raw(size as u32, size as u32, bytes).expect("three bytes a pixel")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_has_the_stated_strength() {
        let mut camera = Camera::cell(&mut Dice::new(5, [0; 3]));
        (camera.noise, camera.vignette, camera.gradient, camera.blur) = (2.0, 0.0, vec2(0.0, 0.0), 0.0);
        let photo = camera.develop(vec![[0.3; 3]; 128 * 128], 128);
        let values: Vec<f32> = photo.pixels().map(|p| f32::from(p[1])).collect();
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        let deviation = (values.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / values.len() as f32).sqrt();
        assert!((1.6..2.6).contains(&deviation), "{deviation}");
    }
}
