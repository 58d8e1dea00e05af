//! The scrapbook: an endless stream of very different pictures, from which a small encoder learns general features.
//!
//! Distilling an encoder needs pictures, not labels. What helps is variety of structure: edges, textures, objects on
//! grounds, glints and shadows, ruled and printed matter ("Learning to See by Looking at Noise", Baradad et al. 2021).

mod hardware;
mod leaves;
mod printed;
mod relief;

use image::{RgbImage, imageops};

use super::camera::Camera;
use super::dice::{Dice, label};
use super::draw::{Colour, Vec2, blend, mix, scale, vec2};
use super::light::Lighting;
use super::surface::Surface;
use super::{Flaw, Product, blister::Blister, board::Board, fabric::Fabric, gear::Gear};

/// Picture number `index` of the scrapbook of a seed, `size`×`size`.
pub fn scrap(seed: u64, index: u64, size: usize) -> RgbImage {
    picture(&mut Dice::new(seed, [label("scrap"), 0, index]), size, true)
}

fn picture(dice: &mut Dice, size: usize, whole: bool) -> RgbImage {
    let family = dice.below(if whole { 26 } else { 24 });
    let surface = match family {
        0 => product::<Blister>(dice, size),
        1 | 2 => product::<Board>(dice, size),
        3 | 4 => product::<Fabric>(dice, size),
        5 | 6 => product::<Gear>(dice, size),
        7..=11 => hardware::draw(dice, size),
        12..=14 => relief::tile(dice, size),
        15..=17 => relief::draw(dice, size),
        18..=20 => leaves::draw(dice, size),
        21..=22 => printed::template(dice, size),
        23 => printed::label(dice, size),
        _ => return collage(dice, size),
    };
    let (lighting, camera) = (Lighting::any(dice), Camera::any(dice));
    let mut photo = camera.develop(lighting.shade(&surface), size);
    if matches!(family, 21 | 22) && dice.chance(0.6) {
        // As scanned templates are stored: black and white, nothing between.
        photo.pixels_mut().for_each(|p| p.0 = [if p[1] > 100 { 255 } else { 0 }; 3]);
        return photo;
    }
    finish(dice, photo)
}

/// A product of random style, sometimes damaged.
fn product<P: Product>(dice: &mut Dice, size: usize) -> Surface {
    let piece = if dice.chance(0.25) { P::sample(dice) } else { P::vary(dice) };
    let flaw = dice.chance(0.35).then(|| Flaw { kind: dice.pick(P::DEFECTS), dice: dice.clone() });
    piece.surface(size, flaw)
}

/// Two to four pictures side by side.
fn collage(dice: &mut Dice, size: usize) -> RgbImage {
    let mut sheet = picture(dice, size, false);
    let (x, y) = (dice.range(0.3, 0.7) * size as f32, dice.range(0.3, 0.7) * size as f32);
    let other = picture(dice, size, false);
    imageops::replace(&mut sheet, &other, x as i64, if dice.chance(0.5) { y as i64 } else { 0 });
    if dice.chance(0.5) {
        let third = picture(dice, size, false);
        imageops::replace(&mut sheet, &third, -(x as i64), y as i64);
    }
    sheet
}

/// Mirrors, greys and inverts some photos, and sets contrast and brightness as other cameras and other people would.
fn finish(dice: &mut Dice, mut photo: RgbImage) -> RgbImage {
    if dice.chance(0.5) {
        imageops::flip_horizontal_in_place(&mut photo);
    }
    let (grey, invert) = (dice.chance(0.35), dice.chance(0.06));
    let levels = |p: &image::Rgb<u8>| p.0.map(f32::from);
    let brightness = |p: &image::Rgb<u8>| {
        let [r, g, b] = levels(p);
        0.3 * r + 0.6 * g + 0.1 * b
    };
    let count = (photo.width() * photo.height()) as f32;
    let mean = photo.pixels().map(brightness).sum::<f32>() / count;
    let variance = photo.pixels().map(|p| (brightness(p) - mean) * (brightness(p) - mean)).sum::<f32>() / count;
    let gain = (dice.range(20.0, 80.0) / variance.sqrt().max(1.0)).clamp(0.7, 5.0);
    let centre = mix(mean, dice.range(50.0, 205.0), 0.6);
    for pixel in photo.pixels_mut() {
        let level = if grey { [brightness(pixel); 3] } else { levels(pixel) };
        let level = level.map(|v| centre + gain * (v - mean));
        pixel.0 = level.map(|v| if invert { 255.0 - v } else { v }.round().clamp(0.0, 255.0) as u8);
    }
    photo
}

/// A few colours that go together: greys, shades of one colour, or anything.
fn palette(dice: &mut Dice) -> [Colour; 4] {
    let any = |dice: &mut Dice| -> Colour { std::array::from_fn(|_| dice.unit() * dice.range(0.1, 0.9)) };
    let base = any(dice);
    let grey = |dice: &mut Dice| [dice.range(0.005, 0.85); 3];
    match dice.below(3) {
        0 => std::array::from_fn(|_| grey(dice)).map(|g| dice.tint(g, 0.06)),
        1 => std::array::from_fn(|_| blend(scale(base, dice.range(0.3, 1.8)), grey(dice), 0.15)),
        _ => std::array::from_fn(|_| any(dice)),
    }
}

/// A colour of the palette for a value in `[0, 1]`.
fn shade(palette: &[Colour; 4], value: f32) -> Colour {
    let place = value.clamp(0.0, 0.999) * 3.0;
    let k = place as usize;
    blend(palette[k], palette[k + 1], place - k as f32)
}

/// Somewhere in the picture.
fn anywhere(dice: &mut Dice) -> Vec2 {
    vec2(dice.unit(), dice.unit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_follow_from_seed_and_index_and_differ() {
        assert_eq!(scrap(5, 7, 64), scrap(5, 7, 64));
        let mut means: Vec<u64> =
            (0..40).map(|i| scrap(5, i, 64).as_raw().iter().map(|&v| u64::from(v)).sum()).collect();
        means.sort_unstable();
        means.dedup();
        assert_eq!(means.len(), 40);
        let plain = (0..40).filter(|&i| {
            let photo = scrap(6, i, 64);
            let (low, high) = photo.as_raw().iter().fold((255, 0), |(l, h), &v| (v.min(l), v.max(h)));
            high - low < 30
        });
        assert!(plain.count() <= 4, "hardly any picture is empty");
    }
}
