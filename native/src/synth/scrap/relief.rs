//! Surfaces that fill the picture: two textures, one for colour and one for height, and brushed grey tiles.

use super::super::defects::{blob, crack, dent, scratch, wander};
use super::super::dice::Dice;
use super::super::draw::{Vec2, mix, scale, smoothstep, vec2};
use super::super::noise::{fbm, value};
use super::super::surface::{Surface, Texel};
use super::super::texture::Texture;
use super::{anywhere, palette, shade};

/// Any texture on any relief: leather, stone, wallpaper, hammered metal, a ruled page.
pub fn draw(dice: &mut Dice, size: usize) -> Surface {
    let (colour, over, height) = (Texture::any(dice), Texture::any(dice), Texture::natural(dice));
    let palette = palette(dice);
    let both = if dice.chance(0.5) { 0.0 } else { dice.unit() };
    let depth = if dice.chance(0.35) { 0.0 } else { dice.range(0.002, 0.03) };
    // Pits and bumps of the colour's own shape look like one material.
    let own = dice.pick(&[0.0, 0.5, 1.0]);
    let metal = if dice.chance(0.3) { dice.unit() } else { 0.0 };
    let rough = dice.range(0.3, 0.95);
    let mut surface = Surface::new(size, |p| {
        let value = mix(colour.at(p), over.at(p), both);
        let lift = mix(height.at(p), value, own);
        Texel { albedo: shade(&palette, value), metal, rough, height: depth * lift, grain: vec2(0.0, 0.0) }
    });
    if dice.chance(0.4) {
        damage(dice, &mut surface);
    }
    surface
}

/// A rough grey tile: streaks along one direction, darker towards its sides, pores, sometimes damaged.
pub fn tile(dice: &mut Dice, size: usize) -> Surface {
    let seed = dice.bits();
    let along = if dice.chance(0.7) {
        Vec2::polar(1.0, dice.spread(0.05) + dice.pick(&[0.0, 1.570_796_4]))
    } else {
        Vec2::polar(1.0, dice.angle())
    };
    let (grey, streaks, rough) = (dice.range(0.03, 0.4), dice.range(0.1, 1.0), dice.range(0.0, 0.6));
    let tint = dice.tint([grey; 3], 0.08);
    let (edge, left, right) = (dice.range(0.0, 0.25), dice.range(0.0, 0.3), dice.range(0.75, 1.1));
    let (coarse, fine) = (dice.range(5.0, 30.0), dice.range(50.0, 140.0));
    let (metal, depth) = (dice.range(0.0, 0.8), dice.range(0.0, 0.006));
    let border = dice.chance(0.6);
    let mut surface = Surface::new(size, |p| {
        let (u, v) = (p.dot(along), p.dot(along.across()));
        let streak = value(vec2(u * 1.5, v * fine), seed) + value(vec2(u * 0.7, v * coarse), seed ^ 1) - 1.0;
        let grain = fbm(p * 60.0, 3, seed ^ 2) - 0.5;
        let cloud = fbm(p * 3.0, 3, seed ^ 3) - 0.5;
        let side = if border {
            smoothstep(left, left + edge + 0.02, p.x) * smoothstep(right, right - edge - 0.02, p.x)
        } else {
            1.0
        };
        let tone = (1.0 + streaks * streak + rough * 2.0 * grain + 0.6 * cloud).max(0.1) * mix(0.12, 1.0, side);
        Texel {
            albedo: scale(tint, tone),
            metal,
            rough: 0.7,
            height: depth * (streak + 2.0 * grain * rough),
            grain: along * (0.2 * streaks),
        }
    });
    if dice.chance(0.5) {
        damage(dice, &mut surface);
    }
    surface
}

/// One to three scratches, cracks, pores, dents or spills.
pub fn damage(dice: &mut Dice, surface: &mut Surface) {
    for _ in 0..1 + dice.below(3) {
        let at = anywhere(dice);
        let under = surface.at(at).albedo;
        let other = Texel {
            albedo: scale(under, dice.range(0.15, 2.2)),
            metal: dice.unit() * 0.8,
            rough: 0.5,
            ..Texel::default()
        };
        match dice.below(5) {
            0 => {
                let (heading, length) = (dice.angle(), dice.range(0.1, 0.7));
                let path = wander(dice, at, heading, length, 1.5);
                scratch(surface, &path, dice.range(0.003, 0.012), dice.range(0.0, 0.01), f32::MIN, &other);
            }
            1 => {
                let (heading, length) = (dice.angle(), dice.range(0.15, 0.6));
                crack(surface, dice, at, heading, length, f32::MIN);
            }
            2 => {
                let radius = dice.range(0.01, 0.1);
                dent(surface, at, radius, radius * dice.range(0.1, 0.6), f32::MIN, dice.bits());
            }
            3 => {
                // Pores.
                for _ in 0..1 + dice.below(12) {
                    let (spot, radius) =
                        (at + Vec2::polar(dice.range(0.0, 0.2), dice.angle()), dice.range(0.004, 0.02));
                    blob(surface, spot, radius, -radius, &Texel::matte(scale(under, 0.1), 0.9), 1.0, dice.bits());
                }
            }
            _ => {
                let radius = dice.range(0.03, 0.2);
                blob(surface, at, radius, radius * dice.range(0.0, 0.2), &other, dice.range(0.3, 1.0), dice.bits());
            }
        }
    }
}
