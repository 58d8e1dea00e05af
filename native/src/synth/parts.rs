//! Electronic parts: where their pads are, and how each looks on the board.

use super::dice::Dice;
use super::draw::{Pose, TURN, Vec2, fract, rectangle, smoothstep, vec2};
use super::glyphs::print;
use super::noise::value;
use super::surface::{Surface, Texel};

/// Tinned or soldered metal.
pub const TIN: Texel =
    Texel { height: 0.0, albedo: [0.62, 0.63, 0.64], metal: 1.0, rough: 0.34, grain: vec2(0.0, 0.0) };
const GOLD: Texel = Texel { albedo: [0.75, 0.56, 0.24], ..TIN };
const RESIN: Texel =
    Texel { height: 0.0, albedo: [0.022, 0.022, 0.024], metal: 0.0, rough: 0.45, grain: vec2(0.0, 0.0) };
const COPPER: Texel = Texel { albedo: [0.6, 0.3, 0.16], ..TIN };
const CERAMIC: Texel = Texel { albedo: [0.36, 0.24, 0.13], ..RESIN };
const WHITE: Texel = Texel { albedo: [0.66, 0.66, 0.62], ..RESIN };

/// What differs between batches of parts: the print on the chips and the shade of the resin.
#[derive(Clone, Debug)]
pub struct Lot {
    code: String,
    shade: f32,
}

impl Lot {
    /// A random batch.
    pub fn new(dice: &mut Dice) -> Self {
        Self { code: format!("{:04}", dice.below(10_000)), shade: dice.range(0.7, 1.5) }
    }
}

/// A kind of part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// A chip with pins on four sides.
    Quad,
    /// A chip with pins on two sides.
    Chip,
    /// A row of pins.
    Header,
    /// An electrolytic capacitor, seen from above.
    Can,
    /// A crystal in a metal case.
    Crystal,
    /// A ceramic capacitor.
    Capacitor,
    /// A resistor.
    Resistor,
    /// A light-emitting diode.
    Led,
    /// A coil wound on a ring.
    Coil,
    /// A trimmer with a slotted brass screw.
    Trimmer,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 10] = {
        use Kind::{Can, Capacitor, Chip, Coil, Crystal, Header, Led, Quad, Resistor, Trimmer};
        [Quad, Chip, Header, Can, Crystal, Capacitor, Resistor, Led, Coil, Trimmer]
    };

    /// Half the extent of the part with its pads.
    pub fn reach(self) -> f32 {
        match self {
            Self::Quad => 0.3,
            Self::Chip => 0.25,
            Self::Header => 0.1,
            Self::Can | Self::Coil => 0.17,
            Self::Crystal => 0.2,
            Self::Capacitor | Self::Resistor | Self::Led | Self::Trimmer => 0.13,
        }
    }

    /// What is mounted there by mistake: a part that the board has nowhere.
    pub fn mistaken_for(self) -> Self {
        match self {
            Self::Quad | Self::Chip | Self::Can => Self::Coil,
            _ => Self::Trimmer,
        }
    }

    /// Middle and half extents of each pad.
    pub fn pads(self) -> Vec<(Vec2, Vec2)> {
        let row = |count: usize, pitch: f32, at: f32, half: Vec2| -> Vec<(Vec2, Vec2)> {
            let x = |k: usize| (k as f32 - 0.5 * (count - 1) as f32) * pitch;
            (0..count).flat_map(|k| [(vec2(x(k), at), half), (vec2(x(k), -at), half)]).collect()
        };
        let swap = |v: Vec2| vec2(v.y, v.x);
        match self {
            Self::Quad => {
                let along = row(8, 0.056, 0.27, vec2(0.016, 0.035));
                along.iter().map(|&(p, h)| (swap(p), swap(h))).chain(along.iter().copied()).collect()
            }
            Self::Chip => row(6, 0.07, 0.21, vec2(0.021, 0.045)),
            Self::Header => row(9, 0.1, 0.0, vec2(0.036, 0.036)),
            Self::Can | Self::Coil => vec![(vec2(-0.1, 0.0), vec2(0.06, 0.035)), (vec2(0.1, 0.0), vec2(0.06, 0.035))],
            Self::Crystal => vec![(vec2(-0.15, 0.0), vec2(0.05, 0.05)), (vec2(0.15, 0.0), vec2(0.05, 0.05))],
            Self::Capacitor | Self::Resistor | Self::Led | Self::Trimmer => {
                vec![(vec2(-0.075, 0.0), vec2(0.038, 0.052)), (vec2(0.075, 0.0), vec2(0.038, 0.052))]
            }
        }
    }

    /// Gilt pads and the printed outline: what is on the board where the part is missing.
    pub fn footprint(self, surface: &mut Surface, place: &Pose, ground: f32) {
        for (at, half) in self.pads() {
            slab(surface, &place.shifted(at), half, 0.008, ground, 0.01, 0.01, &GOLD);
        }
        let extent = match self {
            Self::Quad => vec2(0.22, 0.22),
            Self::Chip => vec2(0.24, 0.15),
            Self::Header => vec2(0.48, 0.07),
            Self::Can | Self::Coil => vec2(0.165, 0.165),
            Self::Crystal => vec2(0.21, 0.095),
            Self::Capacitor | Self::Resistor | Self::Led | Self::Trimmer => vec2(0.13, 0.07),
        };
        let round = if self == Self::Can { 0.165 } else { 0.01 };
        let pixel = 1.0 / (surface.size() as f32 * place.scale());
        let silk = Texel::matte([0.62, 0.62, 0.6], 0.8);
        surface.paint(place.centre, place.scale() * 1.5 * extent.x.max(extent.y), |p, texel| {
            let line = rectangle(place.local(p), extent, round).abs() - 0.006;
            texel.coat(&silk, 0.85 * (0.5 - line / pixel).clamp(0.0, 1.0) * (1.0 - texel.metal));
        });
    }

    /// The part itself, soldered to the board at height `ground`.
    pub fn mount(self, surface: &mut Surface, place: &Pose, ground: f32, lot: &Lot) {
        let resin = Texel { albedo: RESIN.albedo.map(|c| c * lot.shade), ..RESIN };
        let mut block = |at: Vec2, half: Vec2, round: f32, height: f32, bevel: f32, texel: &Texel| {
            slab(surface, &place.shifted(at), half, round, ground, height, bevel, texel);
        };
        let zero = vec2(0.0, 0.0);
        match self {
            Self::Quad | Self::Chip => {
                for (at, half) in self.pads() {
                    block(at * 0.97, half * 0.75, 0.004, 0.03, 0.012, &TIN);
                }
                let (half, text) =
                    if self == Self::Quad { (vec2(0.235, 0.235), "MC68") } else { (vec2(0.22, 0.165), "NE55") };
                block(zero, half, 0.012, 0.09, 0.03, &resin);
                let notch = vec2(-half.x, half.y) * 0.72;
                let label = Texel::matte([0.32, 0.32, 0.31], 0.7);
                print(surface, &place.shifted(vec2(0.0, -0.05)), 0.075, text, &label, 0.9);
                print(surface, &place.shifted(vec2(0.0, 0.06)), 0.06, &lot.code, &label, 0.8);
                surface.paint(place.world(notch), 0.04 * place.scale(), |p, texel| {
                    let r = (place.local(p) - notch).length();
                    texel.height -= 0.02 * place.scale() * smoothstep(0.026, 0.016, r);
                });
            }
            Self::Header => {
                block(zero, vec2(0.46, 0.055), 0.01, 0.1, 0.015, &resin);
                for (at, _) in self.pads() {
                    block(at, vec2(0.02, 0.02), 0.002, 0.24, 0.012, &GOLD);
                }
            }
            Self::Can => {
                block(zero, vec2(0.155, 0.155), 0.155, 0.26, 0.03, &Texel { rough: 0.3, ..TIN });
                surface.paint(place.centre, 0.16 * place.scale(), |p, texel| {
                    let q = place.local(p);
                    let stripe = smoothstep(0.07, 0.078, q.x) * smoothstep(0.15, 0.142, q.length());
                    texel.coat(&RESIN, stripe);
                    let groove = smoothstep(0.012, 0.006, q.x.abs().min(q.y.abs())) * smoothstep(0.1, 0.08, q.length());
                    texel.height -= 0.02 * place.scale() * groove;
                });
            }
            Self::Coil => {
                block(zero, vec2(0.165, 0.165), 0.165, 0.2, 0.09, &COPPER);
                surface.paint(place.centre, 0.17 * place.scale(), |p, texel| {
                    let q = place.local(p);
                    let wire = (fract(q.angle() * (14.0 / TURN)) - 0.5).abs();
                    let gap = smoothstep(0.3, 0.45, wire) * smoothstep(0.168, 0.16, q.length());
                    texel.height -= 0.04 * place.scale() * gap;
                    let core = smoothstep(0.075, 0.065, q.length());
                    texel.coat(&resin, core.max(0.7 * gap));
                    texel.height -= 0.14 * place.scale() * core;
                });
            }
            Self::Trimmer => {
                block(zero, vec2(0.125, 0.11), 0.01, 0.16, 0.015, &Texel { albedo: [0.04, 0.12, 0.34], ..RESIN });
                block(zero, vec2(0.07, 0.07), 0.07, 0.18, 0.015, &GOLD);
                block(zero, vec2(0.06, 0.012), 0.004, 0.15, 0.004, &resin);
            }
            Self::Crystal => {
                block(zero, vec2(0.2, 0.085), 0.08, 0.1, 0.02, &TIN);
                block(zero, vec2(0.17, 0.06), 0.055, 0.12, 0.01, &Texel { rough: 0.42, ..TIN });
                let label = Texel::matte([0.08; 3], 0.7);
                print(surface, place, 0.055, "160", &label, 0.8);
            }
            Self::Capacitor | Self::Resistor | Self::Led => {
                for (at, half) in self.pads() {
                    block(at * 0.95, half * 0.85, 0.02, 0.05, 0.035, &TIN);
                }
                match self {
                    Self::Capacitor => block(zero, vec2(0.058, 0.05), 0.006, 0.085, 0.02, &CERAMIC),
                    Self::Resistor => {
                        block(zero, vec2(0.062, 0.052), 0.004, 0.055, 0.008, &resin);
                        let label = Texel::matte([0.4; 3], 0.7);
                        print(surface, place, 0.045, "103", &label, 0.8);
                    }
                    _ => {
                        block(zero, vec2(0.07, 0.055), 0.004, 0.07, 0.01, &WHITE);
                        let glow = Texel { albedo: [0.6, 0.5, 0.06], rough: 0.3, ..WHITE };
                        block(zero, vec2(0.036, 0.036), 0.036, 0.08, 0.02, &glow);
                    }
                }
            }
        }
    }
}

/// A block with rounded corners and bevelled edges that stands on the board.
#[allow(clippy::too_many_arguments, reason = "a block has that many dimensions")]
fn slab(
    surface: &mut Surface,
    pose: &Pose,
    half: Vec2,
    round: f32,
    ground: f32,
    height: f32,
    bevel: f32,
    texel: &Texel,
) {
    let unit = pose.scale();
    let pixel = 1.0 / (surface.size() as f32 * unit);
    surface.paint(pose.centre, unit * (half.length() + pixel), |p, under| {
        let edge = rectangle(pose.local(p), half, round);
        let inside = (0.5 - edge / pixel).clamp(0.0, 1.0);
        if inside > 0.0 {
            let rise = smoothstep(-0.4 * bevel, bevel, -edge);
            let grain = 0.004 * (value(p * 160.0, 3) - 0.5);
            under.cover(&texel.at(ground + unit * (height * rise + grain)), inside);
        }
    });
}
