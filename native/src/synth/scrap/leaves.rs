//! Dead leaves: shapes of every size that cover one another, each with its own colours and texture.

use super::super::dice::Dice;
use super::super::draw::{Colour, Pose, Vec2, rectangle, smoothstep, star, vec2};
use super::super::noise::fbm;
use super::super::surface::{Surface, Texel};
use super::super::texture::Texture;
use super::{anywhere, palette, shade};

/// A few large or many small shapes on a textured ground.
pub fn draw(dice: &mut Dice, size: usize) -> Surface {
    let ground = Texture::any(dice);
    let colours = palette(dice);
    let mut surface = Surface::new(size, |p| Texel::matte(shade(&colours, ground.at(p)), 0.8));
    let count = dice.pick(&[1, 2, 3, 6, 12, 30, 60]);
    let largest = dice.range(0.2, 0.45) / (count as f32).sqrt() * 1.6;
    let common = dice.chance(0.4).then(|| Leaf::any(dice));
    let flat = dice.chance(0.5);
    for _ in 0..count {
        let leaf = common.clone().unwrap_or_else(|| Leaf::any(dice));
        let pose = Pose::new(anywhere(dice), dice.angle(), largest * dice.range(0.3, 1.0));
        let thick = if flat { 0.0 } else { dice.range(0.0, 0.06) };
        leaf.lay(&mut surface, &pose, thick);
    }
    surface
}

/// A shape of about unit size and what fills it.
#[derive(Clone, Debug)]
struct Leaf {
    shape: Shape,
    texture: Texture,
    colours: [Colour; 4],
    metal: f32,
    rough: f32,
    bevel: f32,
    outline: bool,
}

#[derive(Clone, Copy, Debug)]
enum Shape {
    Ellipse(f32),
    Rectangle(Vec2, f32),
    Star(usize, f32),
    Blob(u32),
    Ring(f32),
}

impl Leaf {
    fn any(dice: &mut Dice) -> Self {
        let sides = 3 + dice.below(7);
        let polygon = libm::cosf(std::f32::consts::PI / sides as f32);
        let shape = match dice.below(6) {
            0 => Shape::Ellipse(dice.range(0.3, 1.0)),
            1 => Shape::Rectangle(vec2(1.0, dice.range(0.03, 1.0)), dice.range(0.0, 0.2)),
            2 => Shape::Star(sides, polygon),
            3 => Shape::Star(sides, polygon * dice.range(0.3, 0.8)),
            4 => Shape::Blob(dice.bits()),
            _ => Shape::Ring(dice.range(0.05, 0.4)),
        };
        Self {
            shape,
            texture: Texture::any(dice),
            colours: palette(dice),
            metal: if dice.chance(0.2) { 0.9 } else { 0.0 },
            rough: dice.range(0.2, 0.9),
            bevel: dice.range(0.02, 0.6),
            outline: dice.chance(0.15),
        }
    }

    fn distance(&self, q: Vec2) -> f32 {
        match self.shape {
            Shape::Ellipse(ratio) => (vec2(q.x, q.y / ratio).length() - 1.0) * ratio,
            Shape::Rectangle(half, round) => rectangle(q, half, round.min(half.y)),
            Shape::Star(sides, waist) => star(q, sides, waist),
            Shape::Blob(seed) => q.length() - 0.4 - 0.6 * fbm(q * 1.5, 3, seed),
            Shape::Ring(width) => (q.length() - 1.0 + width).abs() - width,
        }
    }

    fn lay(&self, surface: &mut Surface, pose: &Pose, thick: f32) {
        let unit = pose.scale();
        let pixel = 1.0 / (surface.size() as f32 * unit);
        let base = surface.at(pose.centre).height;
        surface.paint(pose.centre, unit * 1.45, |p, texel| {
            let q = pose.local(p);
            let mut edge = self.distance(q);
            if self.outline {
                edge = edge.abs() - 0.04;
            }
            let inside = (0.5 - edge / pixel).clamp(0.0, 1.0);
            if inside > 0.0 {
                let rise = smoothstep(0.0, self.bevel, -edge);
                let albedo = shade(&self.colours, self.texture.at(vec2(0.5, 0.5) + q * 0.5));
                let over = Texel { albedo, metal: self.metal, rough: self.rough, ..Texel::default() };
                texel.cover(&over.at(base + thick * (0.3 + 0.7 * rise)), inside);
            }
        });
    }
}
