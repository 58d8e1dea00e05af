//! Small parts on a ground: screws, bolts, nuts, rings, pills, plates, wires; one, a few, or a heap.

use super::super::defects::{strand, wander};
use super::super::dice::Dice;
use super::super::draw::{Colour, Pose, Vec2, fract, mix, rectangle, scale, smoothstep, star, vec2};
use super::super::glyphs::print;
use super::super::noise::{fbm, lattice, value};
use super::super::surface::{Surface, Texel};
use super::super::texture::Texture;
use super::{anywhere, palette, relief, shade};

/// Parts of one sort, or mixed, on a plain or textured ground.
pub fn draw(dice: &mut Dice, size: usize) -> Surface {
    let mut surface = ground(dice, size);
    let count = dice.pick(&[1, 1, 1, 1, 2, 3, 6, 14]);
    let common = dice.chance(0.7).then(|| Part::any(dice));
    for _ in 0..count {
        let part = common.clone().unwrap_or_else(|| Part::any(dice));
        let alone = count == 1;
        let centre = if alone { vec2(0.5 + dice.spread(0.12), 0.5 + dice.spread(0.12)) } else { anywhere(dice) };
        let reach = if alone { dice.range(0.25, 0.5) } else { dice.range(0.7, 1.0) * 0.42 / (count as f32).sqrt() };
        part.lay(&mut surface, &Pose::new(centre, dice.angle(), reach), dice);
    }
    if dice.chance(0.25) {
        relief::damage(dice, &mut surface);
    }
    surface
}

/// Mostly a plain sheet, light grey as in many inspection photos; sometimes anything.
fn ground(dice: &mut Dice, size: usize) -> Surface {
    let grey = if dice.chance(0.6) { dice.range(0.3, 0.8) } else { dice.range(0.01, 0.4) };
    let colourful = if dice.chance(0.6) { 0.03 } else { 0.5 };
    let tint = dice.tint([grey; 3], colourful);
    let seed = dice.bits();
    let dirt = dice.range(0.0, 0.6);
    if dice.chance(0.75) {
        return Surface::new(size, |p| {
            let specks = smoothstep(0.90, 0.98, value(p * 50.0, seed ^ 1)) * dirt;
            let tone = 0.94 + 0.08 * fbm(p * 5.0, 2, seed) + 0.04 * value(p * 150.0, seed ^ 2) - 0.4 * specks;
            Texel::matte(scale(tint, tone), 0.9)
        });
    }
    let (texture, colours) = (Texture::any(dice), palette(dice));
    Surface::new(size, |p| Texel::matte(shade(&colours, texture.at(p)), 0.9))
}

/// A part of about unit half length.
#[derive(Clone, Debug)]
struct Part {
    sort: Sort,
    material: Texel,
    second: Colour,
    seed: u32,
}

#[derive(Clone, Debug)]
enum Sort {
    Screw(Screw),
    /// Sides, radius of the hole, depth of the socket instead of a hole.
    Nut(usize, f32, bool),
    /// Heights of a turned part at equal steps of its radius.
    Turned([f32; 8], usize),
    /// Half width, and whether the ends differ in colour.
    Pill(f32, bool),
    /// Half height, holes, text.
    Plate(f32, usize, String),
    /// Thickness.
    Wire(f32),
}

impl Part {
    fn any(dice: &mut Dice) -> Self {
        let sort = match dice.below(10) {
            0..=3 => Sort::Screw(Screw::any(dice)),
            4 => Sort::Nut(dice.pick(&[4, 6, 6, 6, 8, 12]), dice.range(0.2, 0.7), dice.chance(0.4)),
            5 | 6 => {
                let hollow = if dice.chance(0.6) { 1 + dice.below(5) } else { 0 };
                Sort::Turned(std::array::from_fn(|_| dice.range(0.02, 0.3)), hollow)
            }
            7 => Sort::Pill(dice.range(0.25, 1.0), dice.chance(0.5)),
            8 => {
                let text = (0..3 + dice.below(5)).map(|_| char::from(dice.pick(b"ABCEHKMNPRSTX0123456789"))).collect();
                Sort::Plate(dice.range(0.2, 0.9), dice.below(5), text)
            }
            _ => Sort::Wire(dice.range(0.02, 0.1)),
        };
        let metals = [[0.56, 0.55, 0.53], [0.3, 0.3, 0.31], [0.45, 0.44, 0.42], [0.7, 0.52, 0.3], [0.6, 0.35, 0.24]];
        let material = if dice.chance(0.7) {
            Texel { metal: dice.range(0.6, 1.0), ..Texel::metal(dice.pick(&metals), dice.range(0.25, 0.65)) }
        } else {
            Texel::matte(std::array::from_fn(|_| dice.range(0.01, 0.8)), dice.range(0.2, 0.8))
        };
        let second = std::array::from_fn(|_| dice.range(0.01, 0.8));
        Self { sort, material, second, seed: dice.bits() }
    }

    fn lay(&self, surface: &mut Surface, pose: &Pose, dice: &mut Dice) {
        let unit = pose.scale();
        if let Sort::Wire(radius) = self.sort {
            let (heading, bend) = (dice.angle(), dice.range(1.0, 12.0));
            let path = wander(dice, pose.centre - Vec2::polar(unit, heading), heading, 2.0 * unit, bend);
            return strand(surface, &path, radius * unit, &self.material);
        }
        let pixel = 1.0 / (surface.size() as f32 * unit);
        let base = surface.at(pose.centre).height;
        surface.paint(pose.centre, 1.45 * unit, |p, texel| {
            let q = pose.local(p);
            let (edge, height, tone) = self.form(q);
            let inside = (0.5 - edge / pixel).clamp(0.0, 1.0);
            if inside > 0.0 {
                let worn = 0.85 + 0.3 * fbm(q * 9.0, 3, self.seed);
                let mut over = Texel { albedo: scale(self.material.albedo, tone * worn), ..self.material };
                if matches!(self.sort, Sort::Pill(_, true)) && q.x > 0.0 {
                    over.albedo = scale(self.second, tone);
                }
                if matches!(self.sort, Sort::Turned(..)) && self.material.metal > 0.5 {
                    over.grain = pose.turn(q.across()) * (0.7 / (unit * q.length().max(0.05)));
                }
                texel.cover(&over.at(base + unit * height), inside);
            }
        });
        if let Sort::Plate(half, _, text) = &self.sort {
            let paint = Texel::matte(self.second, 0.7);
            print(surface, pose, (0.6 * half).min(1.4 / text.len() as f32), text, &paint, 0.9);
        }
    }

    /// Distance to the outline, height above the ground, and brightness, at a place of the part.
    fn form(&self, q: Vec2) -> (f32, f32, f32) {
        match &self.sort {
            Sort::Screw(screw) => screw.form(q),
            Sort::Nut(sides, hole, socket) => {
                let r = q.length();
                let waist = libm::cosf(std::f32::consts::PI / *sides as f32);
                let edge = star(q, *sides, waist);
                let chamfer = smoothstep(0.85 * waist, 1.0, r) * 0.12;
                let thread = 0.03 * fract(r * 14.0);
                if *socket {
                    let well = smoothstep(0.02, -0.02, star(q * (1.0 / hole), 6, 0.866) * hole);
                    (edge, 0.4 - chamfer - 0.25 * well, mix(1.0, 0.3, well))
                } else {
                    (edge.max(hole - r), 0.3 - chamfer - thread * smoothstep(hole + 0.1, *hole, r), 1.0)
                }
            }
            Sort::Turned(profile, hollow) => {
                let r = q.length();
                let place = (r * 8.0).min(7.999);
                let k = place as usize;
                let next = profile[(k + 1).min(7)];
                let height = mix(profile[k], next, smoothstep(0.6, 1.0, place - k as f32));
                let marks = value(vec2(r * 90.0, 0.5), self.seed);
                let ring = 0.6 + 0.5 * lattice(k as i32, 3, self.seed);
                ((r - 1.0).max(*hollow as f32 * 0.125 - r), height, ring * (0.85 + 0.2 * marks))
            }
            Sort::Pill(half, _) => {
                let edge = rectangle(q, vec2(1.0, *half), *half);
                let x = 1.0 - (-edge / half).clamp(0.0, 1.0);
                (edge, 0.6 * half * (1.0 - x * x).sqrt(), 1.0)
            }
            Sort::Plate(half, holes, _) => {
                let mut edge = rectangle(q, vec2(1.0, *half), 0.12);
                for k in 0..*holes {
                    let x = if *holes == 1 { -0.75 } else { -0.75 + 1.5 * k as f32 / (*holes - 1) as f32 };
                    edge = edge.max(0.09 - (q - vec2(x, 0.6 * half)).length());
                }
                (edge, 0.08 * smoothstep(0.0, 0.04, -edge), 0.9 + 0.2 * value(vec2(q.x * 3.0, q.y * 60.0), self.seed))
            }
            Sort::Wire(_) => (1.0, 0.0, 1.0),
        }
    }
}

/// A screw or bolt that lies on its side, its head at x = -1, its tip at x = 1.
#[derive(Clone, Debug)]
struct Screw {
    shank: f32,
    head: f32,
    /// Length of the head, and of its cylindrical part.
    head_length: f32,
    countersunk: bool,
    /// Where the thread begins.
    thread: f32,
    pitch: f32,
    depth: f32,
    /// Length of the tip's taper.
    tip: f32,
}

impl Screw {
    fn any(dice: &mut Dice) -> Self {
        let shank = dice.range(0.07, 0.2);
        Self {
            shank,
            head: shank * dice.range(1.6, 2.6),
            head_length: dice.range(0.12, 0.4),
            countersunk: dice.chance(0.6),
            thread: dice.range(-0.7, 0.3),
            pitch: dice.range(0.05, 0.16),
            depth: shank * dice.range(0.15, 0.45),
            tip: dice.pick(&[0.03, 0.1, 0.3]),
        }
    }

    fn form(&self, q: Vec2) -> (f32, f32, f32) {
        let from_head = q.x + 1.0;
        let mut radius = self.shank;
        let mut tone = 1.0;
        if from_head < self.head_length {
            let t = from_head / self.head_length;
            radius = if self.countersunk { mix(self.head, self.shank, smoothstep(0.15, 1.0, t)) } else { self.head };
        } else if q.x > self.thread {
            // The thread runs at a slant over the visible side, and reaches beyond the shank.
            let turn = fract(q.x / self.pitch + 0.5 * q.y / self.shank);
            let ridge = smoothstep(0.5, 0.1, (turn - 0.5).abs());
            radius = self.shank * 0.9 + self.depth * (ridge - 0.35);
            tone = mix(0.5, 1.1, ridge);
        }
        radius *= smoothstep(0.0, self.tip, 1.0 - q.x).max(0.02);
        let across = (q.y / radius).clamp(-1.0, 1.0);
        let edge = (q.y.abs() - radius).max(-from_head).max(q.x - 1.0);
        (edge, self.head + radius * (1.0 - across * across).sqrt() - 0.5 * self.shank, tone)
    }
}
