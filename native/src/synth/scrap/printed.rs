//! Printed and etched matter: black-and-white line patterns as on circuit board templates, and labels with text.

use super::super::dice::Dice;
use super::super::draw::{Colour, Pose, Vec2, blend, rectangle, segment, smoothstep, star, vec2};
use super::super::glyphs::print;
use super::super::noise::fbm;
use super::super::surface::{Surface, Texel};
use super::{anywhere, palette};

/// Traces, pads and areas in one colour on another, sharp, without relief; mostly black and white.
pub fn template(dice: &mut Dice, size: usize) -> Surface {
    let plain = dice.chance(0.65);
    let colours = if plain {
        [[0.004; 3], [1.4; 3]]
    } else {
        let p = palette(dice);
        [p[0], p[2]]
    };
    let (ground, copper) = if dice.chance(0.5) { (colours[1], colours[0]) } else { (colours[0], colours[1]) };
    let seed = dice.bits();
    let ragged = dice.range(0.0, 0.004);
    let mut surface = Surface::new(size, |_| Texel::matte(ground, 1.0));
    let mut ink = |centre: Vec2, reach: f32, colour: Colour, distance: &dyn Fn(Vec2) -> f32| {
        surface.paint(centre, reach, |p, texel| {
            let edge = distance(p) + ragged * (fbm(p * 70.0, 2, seed) - 0.5);
            let inside = (0.5 - edge * size as f32).clamp(0.0, 1.0);
            texel.albedo = blend(texel.albedo, colour, inside);
        });
    };
    let zoom = dice.range(0.6, 2.5);
    // Buses: bundles of parallel traces with bends at 45 degrees.
    for _ in 0..3 + dice.below(9) {
        let (lanes, half) = (1 + dice.below(7), zoom * dice.range(0.002, 0.01));
        let pitch = half * dice.range(3.0, 6.0);
        let mut heading = dice.below(8) as i32;
        let mut corners = vec![anywhere(dice)];
        for _ in 0..2 + dice.below(4) {
            let step = Vec2::polar(dice.range(0.1, 0.5), heading as f32 * std::f32::consts::FRAC_PI_4);
            corners.push(corners[corners.len() - 1] + step);
            heading += dice.pick(&[-1, 1, 1, 2]);
        }
        let round_ends = dice.chance(0.6);
        for lane in 0..lanes {
            let aside = vec2(1.0, 0.4) * (pitch * lane as f32);
            for ends in corners.windows(2) {
                let (a, b) = (ends[0] + aside, ends[1] + aside);
                let reach = 0.5 * (b - a).length() + half + 0.01;
                ink((a + b) * 0.5, reach, copper, &|p| segment(p, a, b).0 - half);
            }
            if round_ends {
                for end in [corners[0] + aside, corners[corners.len() - 1] + aside] {
                    let radius = 2.2 * half;
                    ink(end, radius + 0.01, copper, &|p| (p - end).length() - radius);
                    ink(end, radius, ground, &|p| (p - end).length() - 0.4 * radius);
                }
            }
        }
    }
    // Rows of pads, round or square, some drilled.
    for _ in 0..dice.below(6) {
        let (start, count) = (anywhere(dice), 1 + dice.below(10));
        let way = Vec2::polar(1.0, dice.below(8) as f32 * std::f32::consts::FRAC_PI_4);
        let radius = zoom * dice.range(0.008, 0.03);
        let (pitch, square, drilled) = (radius * dice.range(2.4, 4.0), dice.chance(0.5), dice.chance(0.4));
        for k in 0..count {
            let at = start + way * (pitch * k as f32);
            let half = vec2(radius, radius * 0.7);
            ink(at, 1.5 * radius, copper, &|p| {
                if square { rectangle(p - at, half, 0.0) } else { (p - at).length() - radius }
            });
            if drilled {
                ink(at, radius, ground, &|p| (p - at).length() - 0.4 * radius);
            }
        }
    }
    // A filled area now and then, with clearances.
    if dice.chance(0.4) {
        let (at, reach) = (anywhere(dice), dice.range(0.1, 0.3));
        let pose = Pose::new(at, dice.below(4) as f32 * std::f32::consts::FRAC_PI_4, reach);
        let sides = 4 + dice.below(5);
        ink(at, reach, copper, &|p| star(pose.local(p), sides, 0.9) * reach);
        let hole = at + Vec2::polar(0.4 * reach, dice.angle());
        ink(hole, 0.35 * reach, ground, &|p| (p - hole).length() - 0.2 * reach);
    }
    surface
}

/// A label: lines of text of several sizes, rules, a bar code, a stamp.
pub fn label(dice: &mut Dice, size: usize) -> Surface {
    let colours = palette(dice);
    let paper: Colour = if dice.chance(0.6) { colours[0].map(|c| 0.6 + 0.3 * c) } else { colours[0] };
    let seed = dice.bits();
    let mut surface =
        Surface::new(size, |p| Texel::matte(paper.map(|c| c * (0.9 + 0.2 * fbm(p * 30.0, 3, seed))), 0.9));
    let tilt = dice.spread(0.25);
    let page = Pose::new(vec2(0.5, 0.5), tilt, dice.range(0.7, 1.3));
    let mut y = -0.5;
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    while y < 0.5 {
        let height = dice.range(0.03, 0.16);
        let ink = Texel::matte(dice.pick(&[colours[1], colours[2], [0.02; 3]]), 0.8);
        let line = page.shifted(vec2(dice.spread(0.15), y + 0.5 * height));
        if dice.chance(0.65) {
            let text: String = (0..3 + dice.below(14)).map(|_| char::from(dice.pick(letters))).collect();
            print(&mut surface, &line, height, &text, &ink, 1.0);
        } else {
            let (half, bars) = (vec2(dice.range(0.1, 0.45), dice.range(0.005, 0.5) * height), dice.chance(0.5));
            let pixel = 1.0 / (size as f32 * page.scale());
            surface.paint(line.centre, page.scale() * 0.6, |p, texel| {
                let q = line.local(p);
                let gap = bars && fbm(vec2(q.x * 90.0, 0.5), 1, seed ^ 7) > 0.5;
                let inside = smoothstep(pixel, -pixel, rectangle(q, half, 0.0));
                texel.coat(&ink, if gap { 0.0 } else { inside });
            });
        }
        y += height * dice.range(1.3, 2.0);
    }
    surface
}
