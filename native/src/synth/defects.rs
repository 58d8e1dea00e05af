//! Damage that can happen to any product: scratches, dents, cracks, spills, foreign threads.
//!
//! Each changes the surface only; what of it shows depends on light and camera, as in a real photo.

use super::dice::Dice;
use super::draw::{Colour, Vec2, mix, scale, smoothstep, vec2};
use super::noise::fbm;
use super::surface::{Surface, Texel};

/// A wandering path of `length` from `start`: `bend` is the usual change of direction, in radians, over the whole path.
pub fn wander(dice: &mut Dice, start: Vec2, heading: f32, length: f32, bend: f32) -> Vec<Vec2> {
    const STEPS: usize = 24;
    let (mut at, mut heading, mut turn) = (start, heading, dice.spread(bend));
    let mut path = vec![at];
    for _ in 0..STEPS {
        turn = mix(turn, dice.spread(bend), 0.25);
        heading += turn * (2.0 / STEPS as f32);
        at = at + Vec2::polar(length / STEPS as f32, heading);
        path.push(at);
    }
    path
}

/// A gouge: a groove with raised lips that lays the `bare` material open. What lies below `level` stays as it is.
pub fn scratch(surface: &mut Surface, path: &[Vec2], width: f32, depth: f32, level: f32, bare: &Texel) {
    surface.stroke(path, 2.2 * width, |distance, along, texel| {
        if texel.height < level {
            return;
        }
        let taper = (smoothstep(0.0, 0.15, along) * smoothstep(1.0, 0.8, along)).max(0.05);
        let x = distance / (width * mix(0.5, 1.0, taper));
        let groove = smoothstep(1.0, 0.2, x);
        let lip = smoothstep(1.9, 1.2, x) - smoothstep(1.2, 0.8, x);
        texel.height += depth * taper * (0.6 * lip - groove);
        texel.coat(bare, smoothstep(1.3, 0.7, x));
    });
}

/// A bowl with a raised rim, as a blow leaves it. What lies below `level` stays as it is.
pub fn dent(surface: &mut Surface, centre: Vec2, radius: f32, depth: f32, level: f32, seed: u32) {
    surface.paint(centre, 1.5 * radius, |p, texel| {
        if texel.height < level {
            return;
        }
        let uneven = 1.0 + 0.35 * (fbm((p - centre) * (2.0 / radius), 2, seed) - 0.5);
        let x = (p - centre).length() / (radius * uneven);
        let bowl = if x < 1.0 { (1.0 - x * x) * (1.0 - x * x) } else { 0.0 };
        let rim = smoothstep(0.7, 0.95, x) * smoothstep(1.4, 0.95, x);
        texel.height += depth * (0.35 * rim - bowl);
    });
}

/// A dark gap along a jagged path, with one short branch. What lies below `level` stays as it is.
pub fn crack(surface: &mut Surface, dice: &mut Dice, start: Vec2, heading: f32, length: f32, level: f32) {
    let width = 0.09 * length;
    let jagged = |dice: &mut Dice, start, heading: f32, length: f32| {
        let mut path = vec![start];
        for _ in 0..14 {
            let step = Vec2::polar(length / 14.0, heading + dice.spread(0.9));
            path.push(path[path.len() - 1] + step);
        }
        path
    };
    let trunk = jagged(dice, start, heading, length);
    let fork = trunk[4 + dice.below(6)];
    let aside = heading + dice.pick(&[-0.9, 0.9]);
    let branch = jagged(dice, fork, aside, 0.4 * length);
    for (path, width) in [(trunk, width), (branch, 0.6 * width)] {
        let pixel = 1.0 / surface.size() as f32;
        surface.stroke(&path, width + pixel, |distance, along, texel| {
            if texel.height < level {
                return;
            }
            let half = 0.5 * width * mix(1.0, 0.35, along);
            let open = smoothstep(half + 0.7 * pixel, half - 0.7 * pixel, distance);
            texel.height -= 0.012 * open;
            texel.coat(&Texel::matte(scale(texel.albedo, 0.12), 0.9), open);
        });
    }
}

/// The outline of spilt or stuck matter: signed distance in units of the radius, negative inside.
pub fn splash(p: Vec2, centre: Vec2, radius: f32, seed: u32) -> f32 {
    let q = (p - centre) * (1.0 / radius);
    q.length() - 0.45 - 0.9 * fbm(q * 1.3 + vec2(9.0, 4.0), 3, seed)
}

/// A blob of foreign matter that lies on the surface, `thick` in the middle and of the given opacity.
pub fn blob(surface: &mut Surface, centre: Vec2, radius: f32, thick: f32, matter: &Texel, opacity: f32, seed: u32) {
    let soft = 1.5 / (radius * surface.size() as f32);
    surface.paint(centre, 1.6 * radius, |p, texel| {
        let distance = splash(p, centre, radius, seed);
        let inside = smoothstep(soft, -soft, distance);
        let dome = smoothstep(0.0, -0.5, distance);
        let lumps = 0.7 + 0.6 * fbm((p - centre) * (5.0 / radius), 2, seed ^ 5);
        texel.height = mix(texel.height, texel.height + thick * (0.3 + 0.7 * dome) * lumps, inside);
        texel.coat(&Texel { albedo: scale(matter.albedo, lumps), ..*matter }, opacity * inside);
    });
}

/// A thread or a curl of swarf that lies on the surface along a path.
pub fn strand(surface: &mut Surface, path: &[Vec2], radius: f32, matter: &Texel) {
    let pixel = 1.0 / surface.size() as f32;
    surface.stroke(path, radius + pixel, |distance, along, texel| {
        let inside = smoothstep(radius + 0.5 * pixel, radius - 0.5 * pixel, distance);
        let round = (1.0 - (distance / radius).min(1.0) * (distance / radius).min(1.0)).sqrt();
        let twist = 0.85 + 0.3 * smoothstep(0.3, 0.7, super::draw::fract(along * 14.0 + distance / radius * 0.4));
        texel.height += inside * radius * (0.8 + 1.4 * round);
        texel.coat(&Texel { albedo: scale(matter.albedo, twist), ..*matter }, inside);
    });
}

/// A colour of the same brightness as `like` but another hue: dirt that no brightness threshold finds.
pub fn same_brightness(hue: Colour, like: Colour) -> Colour {
    let brightness = |c: Colour| 0.3 * c[0] + 0.6 * c[1] + 0.1 * c[2];
    scale(hue, brightness(like) / brightness(hue).max(1e-3))
}
