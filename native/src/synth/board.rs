//! A printed circuit board: many different parts, each in its place, with jitter.

use super::defects::{blob, scratch, wander};
use super::dice::Dice;
use super::draw::{Colour, Pose, Vec2, rectangle, scale, segment, smoothstep, vec2};
use super::glyphs::print;
use super::noise::{fbm, value};
use super::parts::{Kind, Lot, TIN};
use super::surface::{Surface, Texel};
use super::{Flaw, Product};

/// A board under the camera. Lengths are in units of half its side.
#[derive(Clone, Debug)]
pub struct Board {
    /// Board to picture coordinates.
    pose: Pose,
    half: Vec2,
    parts: Vec<Part>,
    traces: Vec<Vec<Vec2>>,
    mask: Colour,
    table: Colour,
    lot: Lot,
    seed: u32,
}

/// A part in its place.
#[derive(Clone, Debug)]
struct Part {
    kind: Kind,
    /// What is mounted: nothing, or the wrong thing, if the board is faulty.
    mounted: Option<Kind>,
    /// Where the layout wants it.
    place: Pose,
    /// Where the machine put it, relative to that.
    slip: Pose,
    name: &'static str,
}

impl Part {
    fn new(kind: Kind, at: Vec2, quarters: i32, scale: f32, name: &'static str) -> Self {
        let place = Pose::quarters(at, quarters).then(&Pose::new(vec2(0.0, 0.0), 0.0, scale));
        Self { kind, place, slip: Pose::quarters(vec2(0.0, 0.0), 0), name, mounted: Some(kind) }
    }

    /// Half its extent with its pads, in units of the board.
    fn reach(&self) -> f32 {
        self.kind.reach() * self.place.scale()
    }
}

/// The layout of the class.
fn parts() -> Vec<Part> {
    use Kind::{Can, Capacitor, Chip, Crystal, Header, Led, Quad, Resistor};
    let part = |kind, x, y, quarters, scale, name| Part::new(kind, vec2(x, y), quarters, scale, name);
    vec![
        part(Quad, 0.29, -0.12, 0, 1.4, "U1"),
        part(Chip, -0.55, 0.4, 0, 1.4, "U2"),
        part(Header, 0.0, -0.84, 0, 1.4, "J1"),
        part(Can, -0.55, -0.38, 0, 1.5, "C1"),
        part(Crystal, 0.46, 0.48, 0, 1.4, "Y1"),
        part(Capacitor, 0.86, -0.42, 1, 1.8, "C2"),
        part(Led, 0.86, 0.1, 1, 1.8, "D1"),
        part(Resistor, -0.03, 0.57, 1, 1.8, "R1"),
        part(Resistor, 0.44, 0.8, 0, 1.8, "R2"),
    ]
}

/// A trace as designers draw them: straight, at 45 degrees, straight.
fn route(from: Vec2, to: Vec2, upright: bool) -> Vec<Vec2> {
    let d = to - from;
    let slant = d.x.abs().min(d.y.abs());
    let step = vec2(slant * d.x.signum(), slant * d.y.signum());
    let rest = d - step;
    let first = if upright == (rest.y != 0.0) { rest * 0.5 } else { rest * 0.25 };
    vec![from, from + first, from + first + step, to]
}

/// Traces between the parts, the same for the same layout and dice.
fn traces(parts: &[Part], dice: &mut Dice, count: usize) -> Vec<Vec<Vec2>> {
    let mut found = Vec::with_capacity(count);
    for k in 0..count {
        let (a, b) = (&parts[k % parts.len()], &parts[dice.below(parts.len())]);
        let pin = |part: &Part, dice: &mut Dice| {
            let pads = part.kind.pads();
            part.place.world(pads[dice.below(pads.len())].0)
        };
        let (from, to) = (pin(a, dice), pin(b, dice));
        found.push(route(from, to, dice.chance(0.5)));
    }
    found
}

/// Thickness of the board.
const THICK: f32 = 0.05;
/// Thickness of copper, exaggerated.
const COPPER: f32 = 0.006;

impl Product for Board {
    const NAME: &'static str = "board";
    const DEFECTS: &'static [&'static str] =
        &["contamination", "misplaced_part", "missing_part", "scratch", "solder", "wrong_part"];

    fn sample(dice: &mut Dice) -> Self {
        let mut parts = parts();
        let traces = traces(&parts, &mut Dice::new(11, [0; 3]), 30);
        for part in &mut parts {
            let slip = vec2(dice.spread(0.008), dice.spread(0.008));
            part.slip = Pose::new(slip, dice.spread(0.04), 1.0);
        }
        let centre = vec2(0.5 + dice.spread(0.035), 0.5 + dice.spread(0.035));
        // The operator lays half of them down the other way round.
        let angle = dice.spread(0.1) + if dice.chance(0.5) { std::f32::consts::PI } else { 0.0 };
        Self {
            pose: Pose::new(centre, angle, dice.range(0.41, 0.445)),
            half: vec2(1.0, 1.0),
            parts,
            traces,
            mask: dice.tint([0.012, 0.12, 0.05], 0.15),
            table: dice.tint([0.42, 0.43, 0.45], 0.15),
            lot: Lot::new(dice),
            seed: dice.bits(),
        }
    }

    fn vary(dice: &mut Dice) -> Self {
        let half = vec2(dice.range(0.7, 1.6), dice.range(0.7, 1.6));
        let (mut parts, size) = (Vec::<Part>::new(), dice.range(0.8, 1.6));
        for _ in 0..60 {
            let kind = dice.pick(&Kind::ALL);
            let at = vec2(dice.spread(half.x - 0.1), dice.spread(half.y - 0.1));
            let room = |other: &Part| (other.place.centre - at).length() > 0.9 * (other.reach() + size * kind.reach());
            if parts.iter().all(room) {
                let name = dice.pick(&["R1", "C12", "U3", "D4", "L2", "Q7", "TP1", ""]);
                parts.push(Part::new(kind, at, dice.below(4) as i32, size, name));
            }
        }
        let traces = traces(&parts, dice, 50);
        let grey = dice.range(0.01, 0.8);
        Self {
            pose: Pose::new(vec2(dice.range(0.3, 0.7), dice.range(0.3, 0.7)), dice.angle(), dice.range(0.3, 0.9)),
            half,
            parts,
            traces,
            mask: dice.pick(&[
                [0.012, 0.12, 0.05],
                [0.01, 0.05, 0.2],
                [0.2, 0.015, 0.015],
                [0.012, 0.012, 0.014],
                [0.6, 0.6, 0.58],
                [0.1, 0.1, 0.1],
                [0.3, 0.2, 0.05],
            ]),
            table: dice.tint([grey; 3], 0.3),
            lot: Lot::new(dice),
            seed: dice.bits(),
        }
    }

    fn surface(&self, size: usize, flaw: Option<Flaw>) -> Surface {
        let Some(Flaw { kind, mut dice }) = flaw else { return self.assemble(size) };
        let mut damaged = self.clone();
        let count = self.parts.len();
        match kind {
            "missing_part" => {
                damaged.parts[dice.below(count)].mounted = None;
            }
            "misplaced_part" => {
                let angle = dice.range(0.45, 1.1) * dice.pick(&[-1.0, 1.0]);
                let slip = Vec2::polar(dice.range(0.06, 0.14), dice.angle());
                damaged.parts[dice.below(count)].slip = Pose::new(slip, angle, 1.0);
            }
            "wrong_part" => {
                let part = &mut damaged.parts[dice.below(count)];
                part.mounted = Some(part.kind.mistaken_for());
            }
            _ => {}
        }
        let mut surface = damaged.assemble(size);
        let unit = self.pose.scale();
        let spot = |dice: &mut Dice| self.pose.world(vec2(dice.spread(0.7), dice.spread(0.7)));
        match kind {
            "contamination" => {
                let matter = dice.pick(&[
                    Texel::matte([0.26, 0.14, 0.03], 0.25),
                    Texel::matte([0.34, 0.40, 0.36], 0.9),
                    Texel::matte([0.09, 0.05, 0.03], 0.5),
                ]);
                let radius = unit * dice.range(0.15, 0.26);
                blob(&mut surface, spot(&mut dice), radius, 0.06 * radius, &matter, 0.85, dice.bits());
            }
            "solder" => {
                let part = &self.parts[dice.below(count)];
                let pads = part.kind.pads();
                let at = self.pose.world(part.place.world(pads[dice.below(pads.len())].0));
                for _ in 0..3 {
                    let drop = at + Vec2::polar(unit * dice.range(0.0, 0.2), dice.angle());
                    let radius = unit * dice.range(0.13, 0.19);
                    blob(&mut surface, drop, radius, 0.25 * radius, &TIN, 1.0, dice.bits());
                }
            }
            "scratch" => {
                let copper = Texel::metal([0.62, 0.36, 0.22], 0.35);
                let (middle, heading) = (spot(&mut dice), dice.angle());
                for k in 0..3 {
                    let length = unit * dice.range(0.7, 1.0);
                    let aside = Vec2::polar(unit * 0.06 * k as f32, heading + 1.6);
                    let start = middle + aside - Vec2::polar(0.5 * length, heading);
                    let path = wander(&mut dice, start, heading, length, 0.8);
                    scratch(
                        &mut surface,
                        &path,
                        unit * dice.range(0.02, 0.03),
                        unit * 0.012,
                        0.5 * THICK * unit,
                        &copper,
                    );
                }
            }
            _ => {}
        }
        surface
    }
}

impl Board {
    fn assemble(&self, size: usize) -> Surface {
        let unit = self.pose.scale();
        let mut surface = Surface::new(size, |p| self.ground(p, size));
        self.lay_copper(&mut surface);
        let silk = Texel::matte([0.62, 0.62, 0.6], 0.8);
        for part in &self.parts {
            let place = self.pose.then(&part.place);
            part.kind.footprint(&mut surface, &place, unit * THICK);
            let below = Pose::new(place.centre, self.pose.turn(vec2(1.0, 0.0)).angle(), unit);
            let label = below.shifted(vec2(0.0, part.reach() + 0.05));
            print(&mut surface, &label, 0.075, part.name, &silk, 0.9);
        }
        for part in &self.parts {
            let Some(mounted) = part.mounted else { continue };
            let place = self.pose.then(&part.place).then(&part.slip);
            mounted.mount(&mut surface, &place, unit * THICK, &self.lot);
        }
        surface
    }

    /// The table, and on it the bare board with its mounting holes.
    fn ground(&self, p: Vec2, size: usize) -> Texel {
        let unit = self.pose.scale();
        let q = self.pose.local(p);
        let holes = vec2(q.x.abs() - self.half.x + 0.12, q.y.abs() - self.half.y + 0.12).length();
        let edge = rectangle(q, self.half, 0.06).max(0.055 - holes);
        let pixel = 1.0 / (size as f32 * unit);
        let speckle = value(p * 120.0, self.seed);
        let table = scale(self.table, 0.9 + 0.12 * speckle + 0.1 * fbm(p * 5.0, 2, self.seed ^ 1));
        let mut texel = Texel::matte(table, 0.9).at(0.0008 * speckle);
        let inside = (0.5 - edge / pixel).clamp(0.0, 1.0);
        if inside > 0.0 {
            // The glass fibre's weave shows faintly through the lacquer.
            let weave =
                value(vec2(q.x * 46.0, q.y * 9.0), self.seed ^ 2) + value(vec2(q.x * 9.0, q.y * 46.0), self.seed ^ 3);
            let mask = Texel::matte(scale(self.mask, 0.8 + 0.2 * weave), 0.38).at(unit * (THICK + 0.0012 * weave));
            texel.cover(&mask, inside);
            let ring = smoothstep(pixel, -pixel, (holes - 0.07).abs() - 0.022);
            texel.cover(&TIN.at(unit * (THICK + COPPER)), ring * inside);
        }
        texel
    }

    /// Traces under the lacquer, with a via at each end.
    fn lay_copper(&self, surface: &mut Surface) {
        let unit = self.pose.scale();
        let half = 0.013 * unit;
        let pixel = 1.0 / surface.size() as f32;
        let lacquered = scale(self.mask, 1.9);
        for trace in &self.traces {
            for ends in trace.windows(2) {
                let (a, b) = (self.pose.world(ends[0]), self.pose.world(ends[1]));
                let low = vec2(a.x.min(b.x) - half - pixel, a.y.min(b.y) - half - pixel);
                let high = vec2(a.x.max(b.x) + half + pixel, a.y.max(b.y) + half + pixel);
                surface.paint_box(low, high, |p, texel| {
                    let inside = (0.5 - (segment(p, a, b).0 - half) / pixel).clamp(0.0, 1.0);
                    if inside > 0.0 && texel.metal < 0.5 {
                        texel.cover(&Texel::matte(lacquered, 0.38).at(unit * (THICK + COPPER)), inside);
                    }
                });
            }
            let via = self.pose.world(trace[1]);
            surface.paint(via, 0.035 * unit, |p, texel| {
                let r = (p - via).length() / unit;
                let edge = pixel / unit;
                texel.cover(&TIN.at(unit * (THICK + COPPER)), smoothstep(0.03 + edge, 0.03 - edge, r));
                texel.cover(
                    &Texel::matte([0.01; 3], 0.9).at(unit * (THICK - 0.02)),
                    smoothstep(0.013 + edge, 0.013 - edge, r),
                );
            });
        }
    }
}
