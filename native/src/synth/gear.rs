//! A machined gear on a mat: an object that lies anywhere, turned at will, bare metal with glints and shadows.

use super::defects::{blob, crack, dent, scratch, strand, wander};
use super::dice::Dice;
use super::draw::{Colour, Pose, TURN, Vec2, floor, mix, rectangle, scale, smoothstep, star, vec2};
use super::glyphs::engrave;
use super::noise::{fbm, value};
use super::surface::{Surface, Texel};
use super::{Flaw, Product};

/// A gear under the camera. Lengths are in units of the tip radius.
#[derive(Clone, Debug)]
pub struct Gear {
    /// Gear to picture coordinates.
    pose: Pose,
    teeth: usize,
    /// Depth of the teeth.
    depth: f32,
    /// Radius of the bore.
    bore: f32,
    /// Radii between which the web is recessed.
    web: [f32; 2],
    holes: usize,
    /// Radius of the holes in the web.
    hole: f32,
    key: bool,
    text: &'static str,
    metal: Colour,
    mat: Colour,
    seed: u32,
}

/// Thickness of the rim in tip radii.
const THICK: f32 = 0.14;

impl Product for Gear {
    const NAME: &'static str = "gear";
    const DEFECTS: &'static [&'static str] =
        &["broken_tooth", "contamination", "crack", "dent", "plugged_hole", "scratch"];

    fn sample(dice: &mut Dice) -> Self {
        let centre = vec2(0.5 + dice.spread(0.05), 0.5 + dice.spread(0.05));
        Self {
            pose: Pose::new(centre, dice.angle(), dice.range(0.375, 0.42)),
            teeth: 18,
            depth: 0.13,
            bore: 0.2,
            web: [0.36, 0.7],
            holes: 5,
            hole: 0.115,
            key: true,
            text: "M2 Z18",
            metal: dice.tint([0.56, 0.55, 0.53], 0.04),
            mat: dice.tint([0.15, 0.20, 0.23], 0.12),
            seed: dice.bits(),
        }
    }

    fn vary(dice: &mut Dice) -> Self {
        let centre = vec2(dice.range(0.25, 0.75), dice.range(0.25, 0.75));
        let bore = dice.range(0.1, 0.45);
        let inner = bore + dice.range(0.05, 0.2);
        let grey = dice.range(0.02, 0.7);
        Self {
            pose: Pose::new(centre, dice.angle(), dice.range(0.15, 0.6)),
            teeth: dice.pick(&[6, 8, 10, 12, 16, 20, 24, 36]),
            depth: dice.pick(&[0.0, 0.0, 0.08, 0.12, 0.2]),
            bore,
            web: [inner, inner + dice.range(0.0, 0.4)],
            holes: dice.pick(&[0, 3, 4, 5, 6, 8]),
            hole: dice.range(0.05, 0.14),
            key: dice.chance(0.5),
            text: dice.pick(&["", "A4 70", "12", "DIN 8"]),
            metal: dice.pick(&[[0.56, 0.55, 0.53], [0.35, 0.35, 0.36], [0.7, 0.52, 0.3], [0.6, 0.35, 0.24]]),
            mat: if dice.chance(0.5) { [grey; 3] } else { dice.tint([grey; 3], 0.6) },
            seed: dice.bits(),
        }
    }

    fn surface(&self, size: usize, flaw: Option<Flaw>) -> Surface {
        let Some(Flaw { kind, mut dice }) = flaw else { return self.machine(size, &Damage::default()) };
        let mut damage = Damage::default();
        if kind == "broken_tooth" {
            damage.tooth = Some((dice.below(self.teeth), dice.range(-1.0, -0.6), dice.bits()));
        }
        let mut surface = self.machine(size, &damage);
        let unit = self.pose.scale();
        // Half the gear's thickness: the mat in the holes is not damaged.
        let level = 0.5 * THICK * unit;
        let on_web = |dice: &mut Dice| self.pose.world(Vec2::polar(dice.range(self.web[0], 0.85), dice.angle()));
        match kind {
            "plugged_hole" if self.holes > 0 => self.plug(&mut surface, dice.below(self.holes), dice.angle()),
            "scratch" => {
                let bare = Texel::metal(scale(self.metal, 1.25), 0.35);
                let (middle, heading) = (on_web(&mut dice), dice.angle());
                for _ in 0..2 + dice.below(2) {
                    let (length, turn) = (unit * dice.range(0.5, 0.8), dice.spread(0.2));
                    let aside = Vec2::polar(unit * dice.spread(0.12), heading + TURN / 4.0);
                    let start = middle + aside - Vec2::polar(0.5 * length, heading);
                    let path = wander(&mut dice, start, heading + turn, length, 0.9);
                    scratch(&mut surface, &path, unit * dice.range(0.014, 0.022), unit * 0.02, level, &bare);
                }
            }
            "dent" => {
                let middle = self.pose.world(Vec2::polar(dice.range(0.68, 0.82), dice.angle()));
                for _ in 0..3 {
                    let at = middle + Vec2::polar(unit * dice.range(0.0, 0.2), dice.angle());
                    let radius = unit * dice.range(0.11, 0.16);
                    dent(&mut surface, at, radius, 0.55 * radius, level, dice.bits());
                }
            }
            "contamination" => {
                let matter = dice.pick(&[
                    Texel::matte([0.23, 0.15, 0.06], 0.3),
                    Texel::matte([0.17, 0.22, 0.10], 0.35),
                    Texel::matte([0.30, 0.24, 0.18], 0.9),
                ]);
                let (at, radius) = (on_web(&mut dice), unit * dice.range(0.16, 0.26));
                blob(&mut surface, at, radius, 0.15 * radius, &matter, 0.9, dice.bits());
                if dice.chance(0.5) {
                    let heading = dice.angle();
                    let path = wander(&mut dice, at, heading, unit * 0.6, 9.0);
                    strand(&mut surface, &path, unit * 0.02, &Texel::metal(self.metal, 0.25));
                }
            }
            "crack" => {
                let angle = dice.angle();
                let start = self.pose.world(Vec2::polar(self.bore + 0.02, angle));
                let heading = self.pose.turn(Vec2::polar(1.0, angle)).angle() + dice.spread(0.4);
                let length = unit * dice.range(0.5, 0.7);
                crack(&mut surface, &mut dice, start, heading, length, level);
            }
            _ => {}
        }
        surface
    }
}

/// What was broken off or never machined.
#[derive(Default)]
struct Damage {
    /// The first of three neighbouring teeth, what is left of their height (below zero the rim broke too), and a seed for the
    /// fracture.
    tooth: Option<(usize, f32, u32)>,
}

impl Gear {
    fn machine(&self, size: usize, damage: &Damage) -> Surface {
        let unit = self.pose.scale();
        let mut surface = Surface::new(size, |p| self.ground(p));
        let pixel = 1.0 / (size as f32 * unit);
        let holes: Vec<Vec2> = (0..self.holes).map(|k| self.hole_at(k)).collect();
        let mut brush = |p: Vec2, texel: &mut Texel| {
            let q = self.pose.local(p);
            let r = q.length();
            if r > 1.0 + pixel {
                return;
            }
            let (outline, fracture) = self.outline(q, r, damage);
            let outline = outline.max(self.bore - r).max(self.drilled(q, &holes));
            let inside = (0.5 - outline / pixel).clamp(0.0, 1.0);
            if inside > 0.0 {
                texel.cover(&self.steel(q, r, -outline, fracture), inside);
            }
        };
        surface.paint(self.pose.centre, unit * (1.0 + pixel), &mut brush);
        engrave(&mut surface, &self.pose, 0.5 * (self.bore + self.web[0]), 0.1, self.text);
        surface
    }

    /// The mat: rubber with a fine grain and some dust.
    fn ground(&self, p: Vec2) -> Texel {
        let cloud = 0.85 + 0.3 * fbm(p * 4.0, 3, self.seed);
        let grain = value(p * 130.0, self.seed ^ 1);
        let dust = smoothstep(0.93, 0.97, value(p * 45.0, self.seed ^ 2));
        let albedo = scale(self.mat, cloud * (0.85 + 0.3 * grain));
        Texel::matte(albedo.map(|c| c + 0.12 * dust), 0.85).at(0.0012 * grain)
    }

    /// Distance to the toothed outline, and how far the point lies below a fracture.
    fn outline(&self, q: Vec2, r: f32, damage: &Damage) -> (f32, f32) {
        let root = 1.0 - self.depth;
        if r < root - 2.0 * self.depth || self.depth == 0.0 {
            return (r - 1.0, 0.0);
        }
        let turn = q.angle() / TURN * self.teeth as f32;
        let index = floor(turn);
        let off = (turn - index as f32 - 0.5).abs();
        let rise = smoothstep(0.33, 0.17, off);
        let steep = self.depth * 6.0 * rise * (1.0 - rise) / 0.16 * self.teeth as f32 / (TURN * r);
        let whole = (r - root - self.depth * rise) / (1.0 + steep * steep).sqrt();
        match damage.tooth {
            Some((tooth, rest, seed)) if (index - tooth as i32).rem_euclid(self.teeth as i32) < 3 => {
                let edge = root + self.depth * (rest + 0.7 * (fbm(q * 14.0, 2, seed) - 0.5));
                (whole.max(r - edge), smoothstep(edge - 0.08, edge - 0.04, r))
            }
            _ => (whole, 0.0),
        }
    }

    /// Middle of a hole in the web.
    fn hole_at(&self, k: usize) -> Vec2 {
        Vec2::polar(0.5 * (self.web[0] + self.web[1]), (k as f32 + 0.5) / self.holes as f32 * TURN)
    }

    /// A brass bolt that was left in a hole.
    fn plug(&self, surface: &mut Surface, k: usize, turn: f32) {
        let pose = self.pose.shifted(self.hole_at(k)).then(&Pose::new(vec2(0.0, 0.0), turn, 1.45 * self.hole));
        let pixel = 1.0 / (surface.size() as f32 * pose.scale());
        let height = self.pose.scale() * THICK;
        surface.paint(pose.centre, pose.scale() * (1.0 + pixel), |p, texel| {
            let q = pose.local(p);
            let edge = star(q, 6, 0.866);
            let slot = smoothstep(0.16, 0.1, q.y.abs()) * smoothstep(0.75, 0.65, q.x.abs());
            let bevel = smoothstep(0.25, 0.0, -edge);
            let brass = Texel::metal(scale([0.62, 0.46, 0.2], 1.0 - 0.6 * slot), 0.4);
            let inside = (0.5 - edge / pixel).clamp(0.0, 1.0);
            texel.cover(&brass.at(height * (1.35 - 0.3 * bevel - 0.3 * slot)), inside);
        });
    }

    /// Distance to what is cut out of the web and the hub: the holes and the key way.
    fn drilled(&self, q: Vec2, holes: &[Vec2]) -> f32 {
        let key = if self.key { -rectangle(q - vec2(self.bore, 0.0), vec2(0.07, 0.05), 0.01) } else { -1.0 };
        holes.iter().fold(key, |cut, &at| cut.max(self.hole - (q - at).length()))
    }

    /// The metal at a place `edge` away from the nearest edge.
    fn steel(&self, q: Vec2, r: f32, edge: f32, fracture: f32) -> Texel {
        let unit = self.pose.scale();
        let in_web = smoothstep(self.web[0], self.web[0] + 0.03, r) * smoothstep(self.web[1], self.web[1] - 0.03, r);
        let chamfer = smoothstep(0.035, 0.0, edge);
        let turned = value(vec2(r * 110.0, 0.5), self.seed ^ 3) + 0.5 * value(vec2(r * 47.0, 3.5), self.seed ^ 4);
        let cast = if in_web > 0.0 { fbm(q * 26.0, 3, self.seed ^ 5) } else { 0.0 };
        let broken = if fracture > 0.0 { fbm(q * 40.0, 2, self.seed ^ 6) } else { 0.0 };
        let height = THICK - 0.05 * in_web - 0.035 * chamfer + 0.010 * in_web * cast + 0.05 * fracture * (broken - 1.0);
        let along = self.pose.turn(q.across()) * (1.0 / (unit * r.max(0.05)));
        let smooth = (1.0 - in_web) * (1.0 - chamfer) * (1.0 - fracture);
        let tone = mix(0.82 + 0.18 * turned, 0.38 + 0.3 * cast, in_web) * mix(1.0, 1.3, chamfer);
        Texel {
            height: unit * height,
            albedo: scale(self.metal, mix(tone, 0.4 + 0.4 * broken, fracture)),
            metal: mix(0.9, 0.55, in_web.max(fracture)),
            rough: mix(0.38, 0.7, in_web.max(fracture)),
            grain: along * (0.9 * smooth),
        }
    }
}
