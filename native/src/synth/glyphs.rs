//! Letters and figures: five columns of seven dots each, smoothed, printed flat or engraved along an arc.

use super::draw::{Pose, Vec2, floor, scale, smoothstep, vec2};
use super::surface::{Surface, Texel};

/// Columns from left to right, lowest bit on top.
#[rustfmt::skip]
const DOTS: [[u8; 5]; 36] = [
    [0x3e, 0x51, 0x49, 0x45, 0x3e], [0x00, 0x42, 0x7f, 0x40, 0x00], [0x42, 0x61, 0x51, 0x49, 0x46],
    [0x21, 0x41, 0x45, 0x4b, 0x31], [0x18, 0x14, 0x12, 0x7f, 0x10], [0x27, 0x45, 0x45, 0x45, 0x39],
    [0x3c, 0x4a, 0x49, 0x49, 0x30], [0x01, 0x71, 0x09, 0x05, 0x03], [0x36, 0x49, 0x49, 0x49, 0x36],
    [0x06, 0x49, 0x49, 0x29, 0x1e], [0x7e, 0x11, 0x11, 0x11, 0x7e], [0x7f, 0x49, 0x49, 0x49, 0x36],
    [0x3e, 0x41, 0x41, 0x41, 0x22], [0x7f, 0x41, 0x41, 0x22, 0x1c], [0x7f, 0x49, 0x49, 0x49, 0x41],
    [0x7f, 0x09, 0x09, 0x09, 0x01], [0x3e, 0x41, 0x49, 0x49, 0x7a], [0x7f, 0x08, 0x08, 0x08, 0x7f],
    [0x00, 0x41, 0x7f, 0x41, 0x00], [0x20, 0x40, 0x41, 0x3f, 0x01], [0x7f, 0x08, 0x14, 0x22, 0x41],
    [0x7f, 0x40, 0x40, 0x40, 0x40], [0x7f, 0x02, 0x0c, 0x02, 0x7f], [0x7f, 0x04, 0x08, 0x10, 0x7f],
    [0x3e, 0x41, 0x41, 0x41, 0x3e], [0x7f, 0x09, 0x09, 0x09, 0x06], [0x3e, 0x41, 0x51, 0x21, 0x5e],
    [0x7f, 0x09, 0x19, 0x29, 0x46], [0x46, 0x49, 0x49, 0x49, 0x31], [0x01, 0x01, 0x7f, 0x01, 0x01],
    [0x3f, 0x40, 0x40, 0x40, 0x3f], [0x1f, 0x20, 0x40, 0x20, 0x1f], [0x3f, 0x40, 0x38, 0x40, 0x3f],
    [0x63, 0x14, 0x08, 0x14, 0x63], [0x07, 0x08, 0x70, 0x08, 0x07], [0x61, 0x51, 0x49, 0x45, 0x43],
];

/// How much ink there is at a place of a line of text: one character is 6 wide and 7 high, the first starts at the origin.
/// Digits and capitals have a shape, everything else is a space.
pub fn ink(text: &str, p: Vec2) -> f32 {
    let (x, y) = (p.x - 0.5, p.y - 0.5);
    let (column, row) = (floor(x), floor(y));
    let dot = |column: i32, row: i32| {
        if column < 0 || column % 6 == 5 || !(0..7).contains(&row) {
            return 0.0;
        }
        let index = match text.as_bytes().get(column as usize / 6) {
            Some(c @ b'0'..=b'9') => c - b'0',
            Some(c @ b'A'..=b'Z') => c - b'A' + 10,
            _ => return 0.0,
        };
        f32::from(DOTS[usize::from(index)][column as usize % 6] >> row & 1)
    };
    let (tx, ty) = (x - column as f32, y - row as f32);
    let line = |row| dot(column, row) * (1.0 - tx) + dot(column + 1, row) * tx;
    line(row) * (1.0 - ty) + line(row + 1) * ty
}

/// Prints a line of text on the surface, centred on the pose's origin, characters `height` high in the pose's units.
pub fn print(surface: &mut Surface, pose: &Pose, height: f32, text: &str, paint: &Texel, opacity: f32) {
    let dot = height / 7.0;
    let width = 6.0 * text.len() as f32 - 1.0;
    let reach = pose.scale() * dot * (0.5 * width + 4.0);
    surface.paint(pose.centre, reach, |p, texel| {
        let q = pose.local(p) * (1.0 / dot) + vec2(0.5 * width, 3.5);
        let amount = smoothstep(0.3, 0.6, ink(text, q));
        if amount > 0.0 {
            texel.coat(paint, opacity * amount);
        }
    });
}

/// Engraves text along a circle around the pose's origin, opposite to its x axis.
pub fn engrave(surface: &mut Surface, pose: &Pose, radius: f32, height: f32, text: &str) {
    if text.is_empty() {
        return;
    }
    let dot = height / 7.0;
    let width = 6.0 * text.len() as f32 - 1.0;
    surface.paint(pose.centre, pose.scale() * (radius + height), |p, texel| {
        let q = pose.local(p);
        let above = (q.length() - radius) / dot;
        if above.abs() < 4.5 {
            let along = (-q).angle() * radius / dot;
            let amount = smoothstep(0.3, 0.6, ink(text, vec2(along + 0.5 * width, 3.5 - above)));
            texel.height -= 0.02 * pose.scale() * amount;
            texel.coat(&Texel { albedo: scale(texel.albedo, 0.35), ..*texel }, amount);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_where_they_belong() {
        // The stem of the L, the gap beside it, and its foot.
        assert_eq!(ink("L", vec2(0.5, 3.5)), 1.0);
        assert_eq!(ink("L", vec2(3.5, 3.5)), 0.0);
        assert_eq!(ink("L", vec2(3.5, 6.5)), 1.0);
        assert_eq!(ink(" L", vec2(6.5, 3.5)), 1.0);
        assert_eq!(ink("L", vec2(-3.0, 3.5)), 0.0);
    }
}
