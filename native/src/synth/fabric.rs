//! Woven cloth: a 2/2 twill of two yarns, an aligned texture that fills the photo.

use super::defects::{blob, same_brightness, splash, strand, wander};
use super::dice::Dice;
use super::draw::{Colour, Pose, Vec2, blend, floor, fract, mix, scale, smoothstep, vec2};
use super::noise::{fbm, lattice, scramble, value};
use super::surface::{Surface, Texel};
use super::{Flaw, Product};

/// A piece of cloth under the camera.
#[derive(Clone, Debug)]
pub struct Fabric {
    /// Threads to picture coordinates: one thread is one unit wide.
    pose: Pose,
    warp: Colour,
    weft: Colour,
    /// Which of the first four weft threads the first warp thread crosses over; each next warp thread is one weft further.
    over: [bool; 4],
    /// By how many wefts the pattern moves from one warp thread to the next: 1 for twill, 2 for plain or basket weave.
    advance: i32,
    wrinkles: f32,
    seed: u32,
}

const TWILL: [bool; 4] = [true, true, false, false];

impl Product for Fabric {
    const NAME: &'static str = "fabric";
    const DEFECTS: &'static [&'static str] = &["broken_thread", "float", "foreign_thread", "hole", "stain"];

    fn sample(dice: &mut Dice) -> Self {
        let scale = 1.0 / dice.range(21.0, 24.0);
        let phase = vec2(0.5 + dice.spread(0.1), 0.5 + dice.spread(0.1));
        Self {
            pose: Pose::new(phase, dice.spread(0.12), scale),
            warp: dice.tint([0.055, 0.115, 0.23], 0.12),
            weft: dice.tint([0.50, 0.49, 0.43], 0.06),
            over: TWILL,
            advance: 1,
            wrinkles: dice.range(0.3, 1.0),
            seed: dice.bits(),
        }
    }

    fn vary(dice: &mut Dice) -> Self {
        let colour = |dice: &mut Dice| -> Colour { std::array::from_fn(|_| dice.range(0.02, 0.6)) };
        let warp = colour(dice);
        let weft = if dice.chance(0.5) { dice.tint(warp, 0.3) } else { colour(dice) };
        Self {
            pose: Pose::new(vec2(0.5, 0.5), dice.angle(), 1.0 / dice.range(8.0, 40.0)),
            warp,
            weft,
            over: dice.pick(&[
                TWILL,
                [true, false, true, false],
                [true, true, true, false],
                [true, true, false, false],
            ]),
            advance: dice.pick(&[1, 1, 2, 3]),
            wrinkles: dice.range(0.0, 2.0),
            seed: dice.bits(),
        }
    }

    fn surface(&self, size: usize, flaw: Option<Flaw>) -> Surface {
        let Some(Flaw { kind, mut dice }) = flaw else { return self.weave(size, &Damage::default()) };
        let centre = vec2(dice.range(0.2, 0.8), dice.range(0.2, 0.8));
        let at = self.pose.local(centre);
        let mut damage = Damage::default();
        match kind {
            "broken_thread" => {
                let half = dice.range(4.0, 6.5);
                let count = 1 + dice.below(2) as i32;
                damage.gap = Some(Gap { warp: dice.chance(0.5), first: [floor(at.x), floor(at.y)], count, at, half });
            }
            "float" => damage.float = Some((at, vec2(dice.range(1.6, 3.2), dice.range(2.6, 4.2)))),
            "hole" => damage.hole = Some((at, dice.range(1.4, 2.3), dice.bits())),
            _ => {}
        }
        let mut surface = self.weave(size, &damage);
        match kind {
            "broken_thread" => self.fray(&mut surface, &damage, &mut dice),
            "hole" => self.fray_hole(&mut surface, &damage, &mut dice),
            "foreign_thread" => {
                let yarn = Texel::matte(dice.pick(&[[0.42, 0.06, 0.05], [0.38, 0.30, 0.07], [0.1, 0.3, 0.12]]), 0.8);
                let (heading, length) = (dice.angle(), dice.range(0.3, 0.5));
                let start = centre - Vec2::polar(0.4 * length, heading);
                let path = wander(&mut dice, start, heading, length, 7.0);
                strand(&mut surface, &path, dice.range(0.009, 0.013), &yarn);
            }
            "stain" => {
                let (radius, seed) = (dice.range(0.07, 0.12), dice.bits());
                let hue = dice.pick(&[[0.36, 0.2, 0.08], [0.33, 0.1, 0.07], [0.2, 0.2, 0.05]]);
                let mean = blend(self.warp, self.weft, 0.4);
                let dirt = Texel::matte(same_brightness(hue, mean), 0.6);
                let edge = |p: Vec2| splash(p, centre, radius, seed);
                blob(&mut surface, centre, radius, 0.0, &dirt, 0.55, seed);
                surface.paint(centre, 1.6 * radius, |p, texel| {
                    let rim = smoothstep(-0.2, -0.05, edge(p)) * smoothstep(0.06, -0.02, edge(p));
                    texel.albedo = scale(texel.albedo, 1.0 - 0.35 * rim);
                });
            }
            _ => {}
        }
        surface
    }
}

/// Threads that are not where they should be.
#[derive(Default)]
struct Damage {
    gap: Option<Gap>,
    /// Middle and half axes, in threads, of a patch in which the warp runs over every weft.
    float: Option<(Vec2, Vec2)>,
    /// Middle and radius, in threads, and a seed for the ragged edge.
    hole: Option<(Vec2, f32, u32)>,
}

/// A run of neighbouring threads of one direction that is missing for a length.
struct Gap {
    warp: bool,
    first: [i32; 2],
    count: i32,
    at: Vec2,
    half: f32,
}

impl Damage {
    /// Whether the warp (or weft) thread that passes the point `q` (in threads) is missing there.
    fn missing(&self, warp: bool, cell: [i32; 2], q: Vec2) -> bool {
        let thread = if warp { cell[0] } else { cell[1] };
        let in_gap = self.gap.as_ref().is_some_and(|gap| {
            let (first, along) = if gap.warp { (gap.first[0], q.y - gap.at.y) } else { (gap.first[1], q.x - gap.at.x) };
            let ragged = 0.8 * (lattice(thread, i32::from(along > 0.0), 77) - 0.5);
            gap.warp == warp && (first..first + gap.count).contains(&thread) && along.abs() < gap.half + ragged
        });
        in_gap
            || self.hole.is_some_and(|(centre, radius, seed)| {
                let d = q - centre;
                let along = if warp { d.y } else { d.x };
                let ragged = 1.6 * lattice(thread, i32::from(along > 0.0) + 2 * i32::from(warp), seed);
                d.length() < radius - 0.6 + ragged
            })
    }

    /// Whether a float lifts the warp over the weft in this cell.
    fn lifts(&self, i: i32, j: i32) -> bool {
        self.float.is_some_and(|(centre, half)| {
            let d = vec2((i as f32 + 0.5 - centre.x) / half.x, (j as f32 + 0.5 - centre.y) / half.y);
            d.dot(d) < 1.0
        })
    }
}

impl Fabric {
    fn weave(&self, size: usize, damage: &Damage) -> Surface {
        let unit = self.pose.scale();
        let (warp_way, weft_way) =
            (self.pose.turn(vec2(0.0, 1.0)) * (1.0 / unit), self.pose.turn(vec2(1.0, 0.0)) * (1.0 / unit));
        let ground = Texel::matte(scale(blend(self.warp, self.weft, 0.45), 0.8), 0.9);
        // Whether the warp lies over the weft, as ±1.
        let side = |i: i32, j: i32| {
            let over = self.over[(j + self.advance * i).rem_euclid(4) as usize] || damage.lifts(i, j);
            if over { 1.0 } else { -1.0 }
        };
        Surface::new(size, |p| {
            let drift = vec2(value(p * 3.0, self.seed) - 0.5, value(p * 3.0, self.seed ^ 1) - 0.5);
            let q = self.pose.local(p) + drift * 0.5;
            let (i, j) = (floor(q.x), floor(q.y));
            let (a, b) = (2.0 * (q.x - i as f32) - 1.0, 2.0 * (q.y - j as f32) - 1.0);
            // A thread rises and sinks between the crossings along its way.
            let here = side(i, j);
            let bend = |next: f32, t: f32| mix(here, 0.5 * (here + next), smoothstep(0.15, 1.0, t.abs()));
            let warp_wave = bend(side(i, j + if b > 0.0 { 1 } else { -1 }), b);
            let weft_wave = -bend(side(i + if a > 0.0 { 1 } else { -1 }, j), a);
            let slub =
                |thread: i32, along: f32, seed: u32| 0.92 + 0.3 * value(vec2(along * 0.3, thread as f32 * 7.3), seed);
            let aw = a / slub(i, q.y, self.seed ^ 2);
            let bw = b / slub(j, q.x, self.seed ^ 3);
            let height = |missing: bool, across: f32, wave: f32| {
                if missing || across.abs() >= 1.0 { -1.0 } else { (1.0 - across * across).sqrt() * 0.8 + 0.55 * wave }
            };
            let warp = height(damage.missing(true, [i, j], q), aw, warp_wave);
            let weft = height(damage.missing(false, [i, j], q), bw, weft_wave);
            let top = warp.max(weft);
            let bulge = 0.035 * self.wrinkles * fbm(p * 2.2, 2, self.seed ^ 4);
            if top <= -1.0 {
                let rough = 0.8 + 0.4 * fbm(p * 60.0, 2, self.seed ^ 5);
                return Texel { albedo: scale(ground.albedo, rough), ..ground }.at(bulge - 0.9 * unit);
            }
            let (colour, across, along, thread, way) =
                if warp > weft { (self.warp, aw, q.y, i, warp_way) } else { (self.weft, bw, q.x, j + 1000, weft_way) };
            let lot = 0.88 + 0.24 * lattice(thread, 0, self.seed ^ 6);
            let ply = smoothstep(0.0, 0.35, (fract(along * 1.9 + 0.45 * across) - 0.5).abs());
            let fibre = 0.75
                + 0.5 * value(vec2(along * 5.0 + across * 3.0, across * 5.0 + thread as f32 * 11.0), self.seed ^ 7);
            Texel {
                height: bulge + 0.38 * unit * top,
                albedo: scale(colour, lot * fibre * mix(0.72, 1.08, ply)),
                rough: 0.75,
                metal: 0.0,
                grain: (way + way.across() * 0.35) * 0.08,
            }
        })
    }

    /// Loose ends where the threads broke.
    fn fray(&self, surface: &mut Surface, damage: &Damage, dice: &mut Dice) {
        let Some(gap) = &damage.gap else { return };
        let (colour, way) = if gap.warp { (self.warp, vec2(0.0, 1.0)) } else { (self.weft, vec2(1.0, 0.0)) };
        for thread in 0..gap.count {
            for end in [-1.0, 1.0] {
                let offset = vec2(gap.first[0] as f32, gap.first[1] as f32) + vec2(0.5, 0.5) - gap.at
                    + way.across() * -(thread as f32);
                let aside = way.across() * offset.dot(way.across());
                let start = self.pose.world(gap.at + aside + way * (end * gap.half));
                let heading = self.pose.turn(way * -end).angle() + dice.spread(0.9);
                let length = self.pose.scale() * dice.range(1.5, 2.6);
                let path = wander(dice, start, heading, length, 5.0);
                let tone = scale(colour, 0.9 + 0.2 * (scramble(thread, end as i32, self.seed) & 1) as f32);
                strand(surface, &path, 0.2 * self.pose.scale(), &Texel::matte(tone, 0.8));
            }
        }
    }

    /// Fibres that hang into a hole from its edge.
    fn fray_hole(&self, surface: &mut Surface, damage: &Damage, dice: &mut Dice) {
        let Some((centre, radius, _)) = damage.hole else { return };
        for _ in 0..9 {
            let angle = dice.angle();
            let start = self.pose.world(centre + Vec2::polar(1.05 * radius, angle));
            let inwards = self.pose.turn(Vec2::polar(-1.0, angle + dice.spread(0.8))).angle();
            let length = self.pose.scale() * radius * dice.range(0.5, 1.1);
            let path = wander(dice, start, inwards, length, 4.0);
            let tone = dice.pick(&[self.warp, self.weft]);
            strand(surface, &path, 0.13 * self.pose.scale(), &Texel::matte(tone, 0.8));
        }
    }
}
