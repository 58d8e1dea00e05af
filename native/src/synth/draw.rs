//! Plane geometry of the drawings: vectors, poses, and signed distances (negative inside) that make smooth edges.
//!
//! Pictures are drawn on the unit square, y down, so nothing but the sampling depends on the size in pixels.
//! Trigonometry comes from `libm`: the standard library's differs between platforms in the last bit.

use std::f32::consts::{PI, TAU};
use std::ops::{Add, Mul, Neg, Sub};

/// A full turn in radians.
pub const TURN: f32 = TAU;

/// A colour in linear light.
pub type Colour = [f32; 3];

/// A point or a direction of the picture's plane.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Vec2 {
    /// To the right.
    pub x: f32,
    /// Downwards.
    pub y: f32,
}

/// Shorthand for a [`Vec2`].
pub const fn vec2(x: f32, y: f32) -> Vec2 {
    Vec2 { x, y }
}

impl Vec2 {
    /// The vector of this length and direction.
    pub fn polar(length: f32, angle: f32) -> Self {
        vec2(libm::cosf(angle), libm::sinf(angle)) * length
    }

    /// Scalar product.
    pub fn dot(self, other: Self) -> f32 {
        self.x * other.x + self.y * other.y
    }

    /// Euclidean length.
    pub fn length(self) -> f32 {
        self.dot(self).sqrt()
    }

    /// Turned by a quarter.
    pub fn across(self) -> Self {
        vec2(-self.y, self.x)
    }

    /// Direction in radians, in `(-π, π]`.
    pub fn angle(self) -> f32 {
        libm::atan2f(self.y, self.x)
    }
}

impl Add for Vec2 {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        vec2(self.x + other.x, self.y + other.y)
    }
}

impl Sub for Vec2 {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        vec2(self.x - other.x, self.y - other.y)
    }
}

impl Mul<f32> for Vec2 {
    type Output = Self;
    fn mul(self, by: f32) -> Self {
        vec2(self.x * by, self.y * by)
    }
}

impl Neg for Vec2 {
    type Output = Self;
    fn neg(self) -> Self {
        self * -1.0
    }
}

/// Where a thing lies: turned, scaled, moved.
#[derive(Clone, Copy, Debug)]
pub struct Pose {
    /// Position of the thing's origin.
    pub centre: Vec2,
    /// The thing's x axis in the picture, of the length of the thing's unit.
    axis: Vec2,
}

impl Pose {
    /// A thing at `centre`, turned by `angle`, `scale` times as large.
    pub fn new(centre: Vec2, angle: f32, scale: f32) -> Self {
        Self { centre, axis: Vec2::polar(scale, angle) }
    }

    /// A thing of its own size at `centre`, turned by quarters.
    pub fn quarters(centre: Vec2, quarters: i32) -> Self {
        let axis = [vec2(1.0, 0.0), vec2(0.0, 1.0), vec2(-1.0, 0.0), vec2(0.0, -1.0)];
        Self { centre, axis: axis[quarters.rem_euclid(4) as usize] }
    }

    /// The thing's coordinates of a point of the picture.
    pub fn local(&self, p: Vec2) -> Vec2 {
        let d = p - self.centre;
        vec2(d.dot(self.axis), d.dot(self.axis.across())) * (1.0 / self.axis.dot(self.axis))
    }

    /// The direction in the picture of a direction of the thing, scaled.
    pub fn turn(&self, q: Vec2) -> Vec2 {
        self.axis * q.x + self.axis.across() * q.y
    }

    /// The point of the picture at these coordinates of the thing.
    pub fn world(&self, q: Vec2) -> Vec2 {
        self.centre + self.turn(q)
    }

    /// The same with its origin moved to these coordinates of the thing.
    pub fn shifted(&self, q: Vec2) -> Self {
        Self { centre: self.world(q), ..*self }
    }

    /// How many times larger than its drawing the thing is.
    pub fn scale(&self) -> f32 {
        self.axis.length()
    }

    /// A thing that lies on this one.
    pub fn then(&self, on: &Pose) -> Pose {
        Pose { centre: self.world(on.centre), axis: self.turn(on.axis) }
    }
}

/// Between `a` and `b`.
pub fn mix(a: f32, b: f32, t: f32) -> f32 {
    a + (b - a) * t
}

/// Between two colours.
pub fn blend(a: Colour, b: Colour, t: f32) -> Colour {
    std::array::from_fn(|c| mix(a[c], b[c], t))
}

/// A colour, brighter or darker.
pub fn scale(a: Colour, by: f32) -> Colour {
    a.map(|c| c * by)
}

/// From 0 at `low` to 1 at `high`, smoothly; falls where `low > high`.
pub fn smoothstep(low: f32, high: f32, x: f32) -> f32 {
    let t = ((x - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// Largest integer not above `x`: inlined, where `f32::floor` is a call on plain x86-64.
pub fn floor(x: f32) -> i32 {
    let whole = x as i32;
    whole - i32::from(x < whole as f32)
}

/// Fractional part, in `[0, 1)`.
pub fn fract(x: f32) -> f32 {
    x - floor(x) as f32
}

/// Distance to an axis-parallel rectangle around the origin with rounded corners.
pub fn rectangle(p: Vec2, half: Vec2, round: f32) -> f32 {
    let d = vec2(p.x.abs() - half.x + round, p.y.abs() - half.y + round);
    vec2(d.x.max(0.0), d.y.max(0.0)).length() + d.x.max(d.y).min(0.0) - round
}

/// Distance to the line from `a` to `b`, and where on it the nearest point lies (0 at `a`, 1 at `b`).
pub fn segment(p: Vec2, a: Vec2, b: Vec2) -> (f32, f32) {
    let (d, line) = (p - a, b - a);
    let t = (d.dot(line) / line.dot(line).max(1e-12)).clamp(0.0, 1.0);
    ((d - line * t).length(), t)
}

/// Distance to a regular star or polygon around the origin: `sides` corners at radius 1, edge mid-points at radius `waist`.
pub fn star(p: Vec2, sides: usize, waist: f32) -> f32 {
    let sector = PI / sides as f32;
    let angle = (p.angle().rem_euclid(2.0 * sector) - sector).abs();
    let q = Vec2::polar(p.length(), sector - angle);
    let (corner, middle) = (vec2(1.0, 0.0), Vec2::polar(waist, sector));
    let edge = middle - corner;
    let side = edge.x * (q.y - corner.y) - edge.y * (q.x - corner.x);
    segment(q, corner, middle).0 * if side > 0.0 { -1.0 } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pose_goes_there_and_back() {
        let pose = Pose::new(vec2(0.3, 0.7), 1.1, 0.4);
        let q = vec2(-0.2, 0.9);
        assert!((pose.local(pose.world(q)) - q).length() < 1e-5);
        let both = pose.then(&Pose::new(vec2(0.1, 0.2), -0.5, 2.0));
        assert!((both.scale() - 0.8).abs() < 1e-5);
        assert!((both.world(vec2(0.0, 0.0)) - pose.world(vec2(0.1, 0.2))).length() < 1e-6);
    }

    #[test]
    fn distances_have_their_sign_and_length() {
        assert!((rectangle(vec2(0.5, 0.0), vec2(0.2, 0.1), 0.05) - 0.3).abs() < 1e-6);
        assert!((rectangle(vec2(0.0, 0.0), vec2(0.2, 0.1), 0.05) + 0.1).abs() < 1e-6);
        assert!((segment(vec2(0.5, 1.0), vec2(0.0, 0.0), vec2(1.0, 0.0)).0 - 1.0).abs() < 1e-6);
        assert!(star(vec2(0.0, 0.1), 6, 0.866) < 0.0 && star(vec2(0.0, 1.2), 6, 0.866) > 0.0);
        assert!((star(vec2(1.5, 0.0), 6, 0.866) - 0.5).abs() < 1e-5);
    }

    #[test]
    fn floor_agrees_with_the_standard_library() {
        for x in [-2.0, -1.5, -0.1, 0.0, 0.9, 1.0, 7.99] {
            assert_eq!(floor(x), x.floor() as i32, "{x}");
        }
    }
}
