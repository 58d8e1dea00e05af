//! A random texture of any sort: one number for each place, from which colours, heights and outlines are made.

use super::dice::Dice;
use super::draw::{Pose, Vec2, floor, fract, mix, smoothstep, vec2};
use super::glyphs::ink;
use super::noise::{cell, fbm, lattice, value};

/// A texture. Values lie in `[0, 1]`.
#[derive(Clone, Debug)]
pub struct Texture {
    sort: Sort,
    pose: Pose,
    /// How far places are displaced, in features.
    warp: f32,
    /// A proportion: line width, sharpness, size of a dot.
    share: f32,
    soft: f32,
    octaves: u32,
    seed: u32,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Sort {
    Plain,
    Clouds,
    Ridges,
    Pebbles,
    Creases,
    Flakes,
    Stripes,
    Checks,
    Dots,
    Rings,
    Wood,
    Bricks,
    Grid,
    Speckles,
    Brushed,
    Arcs,
    Text,
    Bars,
    Plaid,
    Star,
}

use Sort::{
    Arcs, Bars, Bricks, Brushed, Checks, Clouds, Creases, Dots, Flakes, Grid, Pebbles, Plaid, Plain, Ridges, Rings,
    Speckles, Star, Stripes, Text, Wood,
};

const ALL: [Sort; 20] = [
    Plain, Clouds, Ridges, Pebbles, Creases, Flakes, Stripes, Checks, Dots, Rings, Wood, Bricks, Grid, Speckles,
    Brushed, Arcs, Text, Bars, Plaid, Star,
];

impl Texture {
    /// Any texture.
    pub fn any(dice: &mut Dice) -> Self {
        let sort = dice.pick(&ALL);
        Self::of(dice, sort)
    }

    /// A texture of matter rather than of drawing: no text, no ruled lines.
    pub fn natural(dice: &mut Dice) -> Self {
        let sort = dice.pick(&[Clouds, Ridges, Pebbles, Creases, Flakes, Wood, Speckles, Brushed]);
        Self::of(dice, sort)
    }

    fn of(dice: &mut Dice, sort: Sort) -> Self {
        // Features from half a picture down to a few pixels.
        let frequency = 2.0 * libm::expf(dice.range(0.0, 3.2));
        let angle = if dice.chance(0.4) { dice.pick(&[0.0, 1.570_796_4]) } else { dice.angle() };
        let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789  ";
        let text = (0..12 + dice.below(30)).map(|_| char::from(dice.pick(letters))).collect();
        let frequency = if sort == Text { 2.0 * frequency + 20.0 } else { frequency };
        Self {
            sort,
            pose: Pose::new(vec2(dice.unit(), dice.unit()), angle, 1.0 / frequency),
            warp: if dice.chance(0.5) { 0.0 } else { dice.range(0.0, 1.2) },
            share: dice.range(0.1, 0.5),
            soft: if dice.chance(0.5) { 0.03 } else { dice.range(0.03, 0.5) },
            octaves: 1 + dice.below(5) as u32,
            seed: dice.bits(),
            text,
        }
    }

    /// The value at a place.
    pub fn at(&self, p: Vec2) -> f32 {
        let mut q = self.pose.local(p);
        if self.warp > 0.0 {
            let drift = vec2(value(q * 0.6, self.seed ^ 51) - 0.5, value(q * 0.6, self.seed ^ 52) - 0.5);
            q = q + drift * (2.0 * self.warp);
        }
        let (x, y) = (fract(q.x), fract(q.y));
        let (i, j) = (floor(q.x), floor(q.y));
        // 1 within `share` of zero, with a soft edge.
        let line = |t: f32| smoothstep(self.share + self.soft, self.share, t.abs() * 2.0);
        match self.sort {
            Plain => 0.5,
            Clouds => fbm(q, self.octaves, self.seed),
            Ridges => 1.0 - (2.0 * fbm(q, self.octaves, self.seed) - 1.0).abs() * 2.0,
            Pebbles => cell(q, self.seed).near.min(1.0),
            Creases => {
                let found = cell(q, self.seed);
                smoothstep(0.0, self.share, found.next - found.near)
            }
            Flakes => (cell(q, self.seed).id >> 8) as f32 / 16_777_216.0,
            Stripes => line(x - 0.5),
            Checks => ((i + j) & 1) as f32,
            Dots => line((vec2(x - 0.5, y - 0.5)).length()),
            Rings => line(fract(q.length()) - 0.5),
            Wood => fract(4.0 * fbm(vec2(q.x, q.y * 0.2), 2, self.seed)),
            Bricks => {
                let shifted = fract(q.x * 0.5 + 0.5 * (j & 1) as f32) - 0.5;
                let edge = (0.5 - shifted.abs()).min((0.5 - (y - 0.5).abs()) * 0.5);
                let tone = lattice(floor(q.x * 0.5 + 0.5 * (j & 1) as f32), j, self.seed);
                smoothstep(0.02, 0.02 + 0.2 * self.soft, edge) * (0.5 + 0.5 * tone)
            }
            Grid => line(x - 0.5).max(line(y - 0.5)),
            Speckles => smoothstep(self.share + 0.3, self.share + 0.3 + self.soft, value(q * 2.0, self.seed)),
            Brushed => {
                let fine = value(vec2(q.x * 0.15, q.y * 6.0), self.seed);
                mix(fine, value(vec2(q.x * 0.05, q.y * 1.3), self.seed ^ 1), 0.5)
            }
            Arcs => {
                // Truchet tiles: quarter circles that join to winding bands.
                let flip = lattice(i, j, self.seed) < 0.5;
                let u = vec2(if flip { 1.0 - x } else { x }, y);
                let near = u.length().min((u - vec2(1.0, 1.0)).length());
                line(near - 0.5)
            }
            Text => {
                let row = floor(q.y * 0.1);
                let width = 6.0 * self.text.len() as f32;
                let along = q.x + 37.0 * row as f32;
                smoothstep(0.3, 0.6, ink(&self.text, vec2(along.rem_euclid(width), q.y - 10.0 * row as f32)))
            }
            Bars => f32::from(u8::from(lattice(floor(q.x * 4.0), 0, self.seed) < 0.3 + self.share)),
            Plaid => {
                let band = |t: f32, seed: u32| lattice(floor(fract(t * 0.25) * 6.0), 0, seed);
                0.5 * band(q.x, self.seed) + 0.5 * band(q.y, self.seed ^ 1)
            }
            Star => {
                let turn = q.angle() * (2 + self.seed % 9) as f32 / std::f32::consts::TAU;
                line(fract(turn + 0.3 * self.warp * q.length()) - 0.5)
            }
        }
        .clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sort_varies_within_its_range() {
        let mut dice = Dice::new(2, [0; 3]);
        for sort in ALL {
            let texture = Texture::of(&mut dice, sort);
            let values: Vec<f32> =
                (0..4096).map(|i| texture.at(vec2((i % 64) as f32, (i / 64) as f32) * (1.0 / 64.0))).collect();
            assert!(values.iter().all(|v| (0.0..=1.0).contains(v)), "{sort:?}");
            let varies = values.iter().any(|&v| (v - values[0]).abs() > 0.1);
            assert_eq!(varies, sort != Plain, "{sort:?}");
        }
    }
}
