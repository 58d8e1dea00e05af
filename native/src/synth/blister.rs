//! A blister pack of two-coloured capsules: pockets in rows on printed, embossed foil.

use super::defects::{blob, strand, wander};
use super::dice::Dice;
use super::draw::{Colour, Pose, Vec2, blend, floor, fract, mix, rectangle, scale, smoothstep, vec2};
use super::glyphs::ink;
use super::noise::{fbm, value};
use super::surface::{Surface, Texel};
use super::{Flaw, Product};

/// A pack under the camera. Lengths are in units of half its width.
#[derive(Clone, Debug)]
pub struct Blister {
    /// Pack to picture coordinates.
    pose: Pose,
    pockets: Vec<Pocket>,
    /// Half extents of a capsule.
    pill: Vec2,
    half: Vec2,
    /// The capsule's two ends.
    ends: [Colour; 2],
    foil: Colour,
    print: &'static str,
    ink: Colour,
    table: Colour,
    seed: u32,
}

/// A pocket and what lies in it.
#[derive(Clone, Debug)]
struct Pocket {
    at: Vec2,
    /// The capsule, in the pocket's coordinates: shifted and turned as it fell.
    lie: Pose,
    content: Content,
    /// Where the plastic is pushed in, and how far.
    crushed: Option<(Vec2, f32)>,
}

/// What a pocket holds.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Content {
    Whole,
    Nothing,
    /// A capsule that broke at this place of its length; the seed shapes the fracture.
    Broken(f32, u32),
    /// Another product: a round tablet of this colour.
    Tablet(Colour),
}

/// Distance between the pockets of the class, and so between the printed lines.
const PITCH: Vec2 = vec2(0.9, 0.6);
/// Height of a pocket's dome.
const DOME: f32 = 0.16;

impl Product for Blister {
    const NAME: &'static str = "blister";
    const DEFECTS: &'static [&'static str] =
        &["broken_capsule", "contamination", "crushed_pocket", "missing_capsule", "torn_foil", "wrong_tablet"];

    fn sample(dice: &mut Dice) -> Self {
        let centre = vec2(0.5 + dice.spread(0.035), 0.5 + dice.spread(0.035));
        let angle = dice.spread(0.12) + if dice.chance(0.5) { std::f32::consts::PI } else { 0.0 };
        let red = dice.tint([0.50, 0.035, 0.03], 0.1);
        Self {
            pose: Pose::new(centre, angle, dice.range(0.405, 0.44)),
            pockets: pockets(dice, [2, 3], PITCH),
            pill: vec2(0.33, 0.165),
            half: vec2(1.0, 0.95),
            ends: [red, dice.tint([0.62, 0.57, 0.44], 0.05)],
            foil: dice.tint([0.62, 0.63, 0.65], 0.04),
            print: "FORTE 200",
            ink: [0.03, 0.08, 0.25],
            table: dice.tint([0.12, 0.13, 0.15], 0.2),
            seed: dice.bits(),
        }
    }

    fn vary(dice: &mut Dice) -> Self {
        let colour = |dice: &mut Dice| -> Colour { std::array::from_fn(|_| dice.range(0.02, 0.7)) };
        let first = colour(dice);
        let second = if dice.chance(0.5) { colour(dice) } else { first };
        let counts = [1 + dice.below(4), 1 + dice.below(4)];
        let half = vec2(dice.range(0.7, 1.3), dice.range(0.7, 1.3));
        let pitch = vec2(2.0 * half.x / counts[0] as f32 * 0.95, 2.0 * half.y / counts[1] as f32 * 0.95);
        let wide = 0.33 * pitch.x;
        Self {
            pose: Pose::new(vec2(dice.range(0.3, 0.7), dice.range(0.3, 0.7)), dice.angle(), dice.range(0.25, 0.8)),
            pockets: pockets(dice, counts, pitch),
            pill: vec2(wide, wide.min(0.33 * pitch.y) * dice.range(0.5, 1.0)),
            half,
            ends: [first, second],
            foil: dice.pick(&[[0.62, 0.63, 0.65], [0.7, 0.55, 0.3], [0.3, 0.3, 0.32]]),
            print: dice.pick(&["", "LOT 7731", "FORTE 200", "20 MG"]),
            ink: colour(dice),
            table: colour(dice),
            seed: dice.bits(),
        }
    }

    fn surface(&self, size: usize, flaw: Option<Flaw>) -> Surface {
        let Some(Flaw { kind, mut dice }) = flaw else { return self.pack(size, None) };
        let mut damaged = self.clone();
        let chosen = dice.below(self.pockets.len());
        let pocket = &mut damaged.pockets[chosen];
        let middle = self.pose.world(pocket.at);
        let unit = self.pose.scale();
        let mut tear = None;
        match kind {
            "missing_capsule" => pocket.content = Content::Nothing,
            "broken_capsule" => pocket.content = Content::Broken(dice.spread(0.3), dice.bits()),
            "wrong_tablet" => {
                let colours = [[0.5, 0.33, 0.04], [0.1, 0.22, 0.42], [0.1, 0.28, 0.12], [0.33, 0.16, 0.3]];
                pocket.content = Content::Tablet(dice.pick(&colours));
            }
            "crushed_pocket" => {
                let push = Vec2::polar(dice.range(0.0, 0.5), dice.angle());
                pocket.crushed = Some((vec2(push.x * self.pill.x, push.y * self.pill.y), dice.range(0.8, 1.2)));
            }
            "torn_foil" => {
                let corner = vec2(self.half.x * 0.6 * dice.spread(1.0), self.half.y * dice.pick(&[-1.0, 1.0]));
                let at = if dice.chance(0.5) { corner } else { pocket.at + vec2(dice.pick(&[-0.45, 0.45]), 0.0) };
                tear = Some((at, dice.range(0.22, 0.3), dice.bits()));
            }
            _ => {}
        }
        let mut surface = damaged.pack(size, tear);
        if kind == "contamination" {
            let spot = middle + Vec2::polar(unit * dice.range(0.0, 0.3), dice.angle());
            if dice.chance(0.5) {
                let matter = Texel::matte(dice.pick(&[[0.14, 0.09, 0.04], [0.1, 0.13, 0.06], [0.3, 0.27, 0.2]]), 0.6);
                let radius = unit * dice.range(0.13, 0.22);
                blob(&mut surface, spot, radius, 0.1 * radius, &matter, 0.85, dice.bits());
            } else {
                let (heading, length) = (dice.angle(), unit * dice.range(0.6, 0.9));
                let path = wander(&mut dice, spot, heading, length, 8.0);
                strand(&mut surface, &path, unit * 0.02, &Texel::matte([0.03, 0.025, 0.02], 0.5));
            }
        }
        surface
    }
}

/// Pockets in columns and rows, a capsule in each as it fell.
fn pockets(dice: &mut Dice, counts: [usize; 2], pitch: Vec2) -> Vec<Pocket> {
    let place = |k: usize, count: usize| k as f32 - 0.5 * (count - 1) as f32;
    (0..counts[0] * counts[1])
        .map(|k| {
            let at = vec2(place(k % counts[0], counts[0]) * pitch.x, place(k / counts[0], counts[1]) * pitch.y);
            let over = if dice.chance(0.5) { std::f32::consts::PI } else { 0.0 };
            let shift = vec2(dice.spread(0.012), dice.spread(0.008));
            let lie = Pose::new(shift, over + dice.spread(0.05), 1.0);
            Pocket { at, lie, content: Content::Whole, crushed: None }
        })
        .collect()
}

impl Blister {
    fn pack(&self, size: usize, tear: Option<(Vec2, f32, u32)>) -> Surface {
        let unit = self.pose.scale();
        let pixel = 1.0 / (size as f32 * unit);
        let mut surface = Surface::new(size, |p| {
            let q = self.pose.local(p);
            let grain = value(p * 140.0, self.seed);
            let table = scale(self.table, 0.8 + 0.25 * grain + 0.2 * fbm(p * 5.0, 2, self.seed ^ 1));
            let mut texel = Texel::matte(table, 0.85).at(0.001 * grain);
            let mut edge = rectangle(q, self.half, 0.12);
            let mut curl = 0.0;
            if let Some((at, radius, seed)) = tear {
                let hole = (q - at).length() - radius * (0.5 + fbm((q - at) * 9.0, 3, seed));
                curl = smoothstep(0.05, 0.0, hole);
                edge = edge.max(-hole);
            }
            let inside = (0.5 - edge / pixel).clamp(0.0, 1.0);
            if inside > 0.0 {
                let mut foil = self.foil(q);
                foil.height += 0.03 * unit * curl;
                texel.cover(&foil, inside);
            }
            texel
        });
        for pocket in &self.pockets {
            let place = self.pose.shifted(pocket.at);
            surface.paint(place.centre, unit * (self.pill.x + 0.1), |p, texel| {
                self.pocket(pocket, place.local(p), pixel, texel)
            });
        }
        surface
    }

    /// Height of the slightly crumpled sheet without its embossing.
    fn sheet(&self, q: Vec2) -> f32 {
        self.pose.scale() * (0.02 + 0.09 * fbm(q * 3.0, 3, self.seed ^ 2))
    }

    /// Sealed foil: embossed with a fine lattice, printed between the rows.
    fn foil(&self, q: Vec2) -> Texel {
        let unit = self.pose.scale();
        let wave = |t: f32| (fract(t) - 0.5).abs();
        let lattice = wave((q.x + q.y) * 11.0).min(wave((q.x - q.y) * 11.0));
        let mut texel = Texel::metal(scale(self.foil, 0.75 + 0.4 * smoothstep(0.0, 0.15, lattice)), 0.42);
        texel.height = self.sheet(q) + unit * 0.012 * smoothstep(0.0, 0.2, lattice);
        if !self.print.is_empty() {
            // The text again and again along each line, every other line moved on by half.
            let line = q.y / PITCH.y + 0.5;
            let dot = 0.09 / 7.0;
            let width = 6.0 * (self.print.len() + 2) as f32 * dot;
            let along = fract(q.x / width + 0.5 * (floor(line) & 1) as f32) * width;
            let across = (fract(line) - 0.5) * PITCH.y;
            let amount = smoothstep(0.35, 0.6, ink(self.print, vec2(along / dot, across / dot + 3.5)));
            texel.coat(&Texel::matte(self.ink, 0.6), 0.85 * amount);
        }
        texel
    }

    /// One pocket: a rim of bent plastic, and below the clear dome its content.
    fn pocket(&self, pocket: &Pocket, q: Vec2, pixel: f32, texel: &mut Texel) {
        let unit = self.pose.scale();
        let room = self.pill + vec2(0.035, 0.035);
        let wall = rectangle(q, room, room.x.min(room.y));
        let inside = smoothstep(pixel, -pixel, wall);
        if wall > 0.06 {
            return;
        }
        let mut dome = smoothstep(0.0, 0.05, -wall);
        let ground = mix(texel.height, self.sheet(pocket.at + q), dome);
        let mut dull = 0.0;
        if let Some((at, depth)) = pocket.crushed {
            let folds = fbm(q * 10.0, 3, self.seed ^ 9);
            let pushed = smoothstep(0.42, 0.1, (q - at).length() + 0.12 * (folds - 0.5));
            dome *= 1.0 - 0.75 * depth * pushed * (0.4 + folds);
            dull = 0.95 * pushed * smoothstep(0.38, 0.52, folds);
        }
        // Inside, the foil is smooth and shaded by the plastic.
        let below = Texel { albedo: scale(self.foil, 0.5), rough: 0.5, ..Texel::metal(self.foil, 0.5) };
        texel.coat(&below, 0.8 * inside);
        let (shape, content) = self.content(pocket, pocket.lie.local(q));
        let filled = smoothstep(pixel, -pixel, shape) * inside;
        if let Some(colour) = content {
            texel.coat(&Texel::matte(colour, 0.32), filled);
            // The gap between capsule and plastic lies in shadow.
            texel.albedo =
                scale(texel.albedo, 1.0 - 0.45 * smoothstep(0.045, 0.0, shape.abs()) * (1.0 - filled) * inside);
        }
        let bulge = (-shape / self.pill.y).clamp(0.0, 1.0);
        let round = (1.0 - (1.0 - bulge) * (1.0 - bulge)).sqrt();
        let height = DOME * (0.25 * dome + 0.75 * filled * round * dome.max(0.2));
        texel.height = ground + unit * height * inside;
        // Bent plastic around the pocket catches the light; cracks in crushed plastic turn white.
        let rim = smoothstep(0.028, 0.008, (wall - 0.004).abs());
        texel.height += unit * 0.02 * rim;
        texel.coat(&Texel::matte([0.55, 0.57, 0.6], 0.18), (0.35 * rim).max(dull));
    }

    /// Distance to the content's outline and its colour.
    fn content(&self, pocket: &Pocket, q: Vec2) -> (f32, Option<Colour>) {
        let capsule = rectangle(q, self.pill, self.pill.y.min(self.pill.x));
        let shade = 0.92 + 0.16 * value(q * 60.0, self.seed ^ 3);
        let two = blend(self.ends[0], self.ends[1], smoothstep(-0.006, 0.006, q.x));
        // The cap overlaps the body: a dark seam.
        let seam = 1.0 - 0.35 * smoothstep(0.012, 0.004, q.x.abs());
        match pocket.content {
            Content::Whole => (capsule, Some(scale(two, shade * seam))),
            Content::Nothing => (1.0, None),
            Content::Broken(at, seed) => {
                let ragged = fbm(q * 11.0, 3, seed) - 0.5;
                let cut = q.x - self.pill.x * at - 0.2 * ragged;
                let crumb = fbm(q * 14.0, 2, seed ^ 1);
                let crumbs = rectangle(q, self.pill, self.pill.y).max(0.06 - 0.12 * (crumb - 0.45)).max(-cut);
                let powder = smoothstep(-0.06, -0.02, cut);
                let colour = blend(scale(two, shade * seam), [0.6, 0.55, 0.45], powder);
                (capsule.max(cut).min(crumbs), Some(colour))
            }
            Content::Tablet(colour) => {
                let r = q.length();
                let score = 1.0 - 0.4 * smoothstep(0.012, 0.004, q.y.abs());
                (r - 1.08 * self.pill.y, Some(scale(colour, shade * score)))
            }
        }
    }
}
