//! What a product is made of, pixel by pixel: a height field with materials. Light and camera make a photo of it.

use super::draw::{Colour, Vec2, blend, mix, segment, vec2};

/// One point of a surface.
#[derive(Clone, Copy, Debug, Default)]
pub struct Texel {
    /// Height above the table, in picture widths.
    pub height: f32,
    /// Share of light that is scattered back (or mirrored, for a metal).
    pub albedo: Colour,
    /// 0 for paint and plastic, 1 for bare metal.
    pub metal: f32,
    /// From 0.1 (polished) to 1 (chalk).
    pub rough: f32,
    /// Direction of fine grooves or fibres, which stretch highlights across; its length is their strength.
    pub grain: Vec2,
}

impl Texel {
    /// A surface that scatters light.
    pub fn matte(albedo: Colour, rough: f32) -> Self {
        Self { albedo, rough, ..Self::default() }
    }

    /// Bare metal.
    pub fn metal(albedo: Colour, rough: f32) -> Self {
        Self { albedo, rough, metal: 1.0, ..Self::default() }
    }

    /// The same at another height.
    pub fn at(self, height: f32) -> Self {
        Self { height, ..self }
    }

    /// Lays `over` on this texel with an opacity, height included.
    pub fn cover(&mut self, over: &Texel, opacity: f32) {
        self.height = mix(self.height, over.height, opacity);
        self.coat(over, opacity);
    }

    /// Takes the material of `over` with an opacity, and keeps the height.
    pub fn coat(&mut self, over: &Texel, opacity: f32) {
        self.albedo = blend(self.albedo, over.albedo, opacity);
        self.metal = mix(self.metal, over.metal, opacity);
        self.rough = mix(self.rough, over.rough, opacity);
        self.grain = self.grain + (over.grain - self.grain) * opacity;
    }
}

/// A square height field with materials, over the unit square.
#[derive(Clone, Debug)]
pub struct Surface {
    size: usize,
    texels: Vec<Texel>,
}

impl Surface {
    /// A surface of `size`×`size` texels, each drawn by `texel` from its place.
    pub fn new(size: usize, texel: impl Fn(Vec2) -> Texel) -> Self {
        let place = |i: usize| vec2((i % size) as f32 + 0.5, (i / size) as f32 + 0.5) * (1.0 / size as f32);
        Self { size, texels: (0..size * size).map(|i| texel(place(i))).collect() }
    }

    /// Side in texels.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Row by row.
    pub fn texels(&self) -> &[Texel] {
        &self.texels
    }

    /// The texel at a place; the nearest one where the place lies outside.
    pub fn at(&self, p: Vec2) -> &Texel {
        let index = |v: f32| ((v * self.size as f32) as usize).min(self.size - 1);
        &self.texels[index(p.y) * self.size + index(p.x)]
    }

    /// How much of a pixel lies inside an edge at this signed distance: the antialiasing of every shape.
    pub fn inside(&self, distance: f32) -> f32 {
        (0.5 - distance * self.size as f32).clamp(0.0, 1.0)
    }

    /// Lets `brush` change every texel within `reach` of `centre` (a square).
    pub fn paint(&mut self, centre: Vec2, reach: f32, brush: impl FnMut(Vec2, &mut Texel)) {
        let corner = vec2(reach, reach);
        self.paint_box(centre - corner, centre + corner, brush);
    }

    /// Lets `brush` change every texel of a rectangle.
    pub fn paint_box(&mut self, low: Vec2, high: Vec2, mut brush: impl FnMut(Vec2, &mut Texel)) {
        let side = self.size as f32;
        let bound = |v: f32| (v * side).clamp(0.0, side) as usize;
        for y in bound(low.y)..bound(high.y + 1.0 / side) {
            for x in bound(low.x)..bound(high.x + 1.0 / side) {
                let p = vec2(x as f32 + 0.5, y as f32 + 0.5) * (1.0 / side);
                brush(p, &mut self.texels[y * self.size + x]);
            }
        }
    }

    /// Lets `brush` change every texel within `reach` of a path of points; it is told the distance from the path
    /// and how far along it the nearest point lies (0 to 1).
    pub fn stroke(&mut self, path: &[Vec2], reach: f32, mut brush: impl FnMut(f32, f32, &mut Texel)) {
        let Some(&first) = path.first() else { return };
        let (mut low, mut high) = (first, first);
        for p in path {
            low = vec2(low.x.min(p.x), low.y.min(p.y));
            high = vec2(high.x.max(p.x), high.y.max(p.y));
        }
        let reached = vec2(reach, reach);
        self.paint_box(low - reached, high + reached, |p, texel| {
            let (mut distance, mut along) = (f32::MAX, 0.0);
            for (i, ends) in path.windows(2).enumerate() {
                let (d, t) = segment(p, ends[0], ends[1]);
                if d < distance {
                    (distance, along) = (d, (i as f32 + t) / (path.len() - 1) as f32);
                }
            }
            if distance < reach {
                brush(distance, along, texel);
            }
        });
    }
}
