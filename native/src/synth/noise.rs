//! Textures without pictures: value noise, its fractal sum, and cells.

use super::draw::{Vec2, floor, mix, vec2};

/// A random number in `[0, 1)` for each point of the integer lattice.
pub fn lattice(x: i32, y: i32, seed: u32) -> f32 {
    (scramble(x, y, seed) >> 8) as f32 * (1.0 / 16_777_216.0)
}

/// 32 random bits for each point of the integer lattice.
pub fn scramble(x: i32, y: i32, seed: u32) -> u32 {
    let mut h = (x as u32).wrapping_mul(0x8da6_b343) ^ (y as u32).wrapping_mul(0xd816_3841);
    h = (h ^ seed.wrapping_mul(0xcb1a_b31f)).wrapping_mul(0x9e37_79b1);
    h = (h ^ (h >> 15)).wrapping_mul(0x2c1b_3c6d);
    h = (h ^ (h >> 12)).wrapping_mul(0x297a_2d39);
    h ^ (h >> 15)
}

/// Smooth noise in `[0, 1]` with features of unit size.
pub fn value(p: Vec2, seed: u32) -> f32 {
    let (x, y) = (floor(p.x), floor(p.y));
    let ease = |t: f32| t * t * (3.0 - 2.0 * t);
    let (tx, ty) = (ease(p.x - x as f32), ease(p.y - y as f32));
    let row = |y| mix(lattice(x, y, seed), lattice(x.wrapping_add(1), y, seed), tx);
    mix(row(y), row(y.wrapping_add(1)), ty)
}

/// Fractal noise in `[0, 1]`, mean one half: octaves of [`value`], each twice as fine and half as strong,
/// turned so that the lattice does not show.
pub fn fbm(p: Vec2, octaves: u32, seed: u32) -> f32 {
    let (mut q, mut weight, mut sum, mut total) = (p, 1.0, 0.0, 0.0);
    for octave in 0..octaves {
        sum += weight * value(q, seed.wrapping_add(octave));
        total += weight;
        weight *= 0.5;
        q = vec2(1.6 * q.x - 1.2 * q.y, 1.2 * q.x + 1.6 * q.y) + vec2(17.3, 5.7);
    }
    sum / total
}

/// Cells of about unit size around scattered points (Worley 1996).
pub struct Cell {
    /// Distance to the nearest point.
    pub near: f32,
    /// Distance to the second nearest: equal to `near` on the border between two cells.
    pub next: f32,
    /// Random bits of the cell.
    pub id: u32,
}

/// The cell that `p` lies in.
pub fn cell(p: Vec2, seed: u32) -> Cell {
    let (x0, y0) = (floor(p.x), floor(p.y));
    let mut found = Cell { near: f32::MAX, next: f32::MAX, id: 0 };
    for y in y0 - 1..=y0 + 1 {
        for x in x0 - 1..=x0 + 1 {
            let id = scramble(x, y, seed);
            let jitter = vec2((id & 0xffff) as f32, (id >> 16) as f32) * (0.9 / 65536.0);
            let d = p - vec2(x as f32, y as f32) - jitter;
            let distance = d.dot(d);
            if distance < found.near {
                found = Cell { near: distance, next: found.near, id };
            } else if distance < found.next {
                found.next = distance;
            }
        }
    }
    Cell { near: found.near.sqrt(), next: found.next.sqrt(), id: found.id }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_smooth_centred_and_depends_on_its_seed() {
        let points: Vec<_> = (0..4000).map(|i| vec2(i as f32 * 0.37, i as f32 * -0.11)).collect();
        let mean = points.iter().map(|&p| fbm(p, 4, 3)).sum::<f32>() / points.len() as f32;
        assert!((mean - 0.5).abs() < 0.03, "{mean}");
        for &p in &points {
            assert!((fbm(p, 3, 3) - fbm(p + vec2(1e-3, 0.0), 3, 3)).abs() < 0.01);
        }
        assert!(points.iter().any(|&p| (value(p, 1) - value(p, 2)).abs() > 0.5));
    }

    #[test]
    fn cells_know_their_neighbours() {
        for i in 0..500 {
            let found = cell(vec2(i as f32 * 0.173, i as f32 * 0.091), 9);
            assert!(found.near <= found.next && found.next < 2.5);
        }
    }
}
