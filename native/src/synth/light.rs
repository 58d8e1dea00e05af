//! Light on a surface: one lamp with shadows, a soft box that metals mirror, ambient light that hollows lose.
//!
//! Lambert and GGX (Walter et al. 2007) for smooth materials, Kajiya and Kay (1989) for grooves and fibres.

use std::f32::consts::PI;

use super::dice::Dice;
use super::draw::{Colour, Vec2, smoothstep, vec2};
use super::filter::box_blur;
use super::surface::{Surface, Texel};

/// How a scene is lit and from how far it is seen.
#[derive(Clone, Debug)]
pub struct Lighting {
    /// Unit vector towards the lamp; z points to the camera.
    lamp: [f32; 3],
    lamp_strength: f32,
    ambient: f32,
    /// Unit vector towards the middle of the soft box.
    soft_box: [f32; 3],
    soft_box_strength: f32,
    /// Camera height above the table in picture widths.
    camera: f32,
}

type Vec3 = [f32; 3];

fn dot(a: Vec3, b: Vec3) -> f32 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn unit(a: Vec3) -> Vec3 {
    let inverse = 1.0 / dot(a, a).sqrt();
    a.map(|v| v * inverse)
}

/// Unit vector of an azimuth and a height above the horizon, in radians.
fn towards(azimuth: f32, elevation: f32) -> Vec3 {
    let flat = Vec2::polar(libm::cosf(elevation), azimuth);
    [flat.x, flat.y, libm::sinf(elevation)]
}

impl Lighting {
    /// The light of an inspection cell: the lamp stands anywhere around, the strengths vary.
    pub fn cell(dice: &mut Dice) -> Self {
        let azimuth = dice.angle();
        Self {
            lamp: towards(azimuth, dice.range(0.65, 1.1)),
            lamp_strength: dice.range(0.75, 1.1),
            ambient: dice.range(0.35, 0.55),
            soft_box: towards(dice.angle(), dice.range(1.0, 1.45)),
            soft_box_strength: dice.range(0.5, 0.9),
            camera: dice.range(2.2, 3.2),
        }
    }

    /// Any light, from flat to glaring.
    pub fn any(dice: &mut Dice) -> Self {
        Self {
            lamp: towards(dice.angle(), dice.range(0.35, 1.45)),
            lamp_strength: dice.range(0.2, 1.4),
            ambient: dice.range(0.15, 0.8),
            soft_box: towards(dice.angle(), dice.range(0.4, 1.5)),
            soft_box_strength: dice.range(0.0, 1.4),
            camera: dice.range(1.2, 6.0),
        }
    }

    /// Light that leaves each point of the surface towards the camera, linear, row by row.
    pub fn shade(&self, surface: &Surface) -> Vec<Colour> {
        let (size, texels) = (surface.size(), surface.texels());
        let heights: Vec<f32> = texels.iter().map(|t| t.height).collect();
        let around = box_blur(&heights, size, (size / 32).max(1));
        let shadow = Shadow::new(&heights, size, self.lamp);
        let last = size - 1;
        let slope = 0.5 * size as f32;
        let mut light = Vec::with_capacity(texels.len());
        for y in 0..size {
            for x in 0..size {
                let i = y * size + x;
                let dx = heights[y * size + x.saturating_sub(1)] - heights[y * size + (x + 1).min(last)];
                let dy = heights[y.saturating_sub(1) * size + x] - heights[(y + 1).min(last) * size + x];
                let normal = unit([dx * slope, dy * slope, 1.0]);
                let view =
                    unit([0.5 - (x as f32 + 0.5) / size as f32, 0.5 - (y as f32 + 0.5) / size as f32, self.camera]);
                let hollow = (1.0 - 9.0 * (around[i] - heights[i]).max(0.0)).max(0.45);
                light.push(self.reflect(&texels[i], normal, view, shadow.lit(x, y), hollow));
            }
        }
        light
    }

    fn reflect(&self, texel: &Texel, normal: Vec3, view: Vec3, lit: f32, hollow: f32) -> Colour {
        let facing = dot(normal, self.lamp).max(0.0);
        let half = unit([self.lamp[0] + view[0], self.lamp[1] + view[1], self.lamp[2] + view[2]]);
        let seen = dot(normal, view).max(0.0);
        let lamp = self.lamp_strength * lit;

        let diffuse = (1.0 - texel.metal) * (self.ambient * hollow + lamp * facing);

        let a2 = (texel.rough * texel.rough * texel.rough * texel.rough).max(1e-3);
        let spread = dot(normal, half) * dot(normal, half) * (a2 - 1.0) + 1.0;
        let lobe = (a2 / (PI * spread * spread)).min(16.0);
        let groove = texel.grain.length();
        let mut glint = 0.25 * lamp * facing * lobe * (1.0 - 0.8 * groove.min(1.0));
        if groove > 0.0 {
            let along = (texel.grain.x * half[0] + texel.grain.y * half[1]) / groove;
            let fan = 1.0 - along * along;
            let fan = fan * fan * fan * fan;
            let fan = fan * fan * fan * fan;
            glint += lamp * groove * fan * fan;
        }

        let bounce = 2.0 * seen;
        let mirrored = [bounce * normal[0] - view[0], bounce * normal[1] - view[1], bounce * normal[2] - view[2]];
        // Grooves spread what they mirror over a whole fan of directions: each gives less.
        let surroundings = hollow * (1.0 - 0.5 * groove.min(1.0)) * self.surroundings(mirrored, texel.rough);
        let grazing = 1.0 - seen;
        let glass = 0.04 + 0.4 * grazing * grazing * grazing * (1.0 - texel.rough);
        std::array::from_fn(|c| {
            let tint = glass + (texel.albedo[c] - glass) * texel.metal;
            texel.albedo[c] * diffuse + tint * (glint + surroundings)
        })
    }

    /// What a mirror sees in a direction: a dim room, brighter above, and the soft box, blurred by roughness.
    fn surroundings(&self, direction: Vec3, rough: f32) -> f32 {
        let above = smoothstep(-0.3, 1.0, direction[2]);
        let edge = 0.06 + 0.35 * rough;
        let soft_box = smoothstep(0.9 - edge, 0.9 + edge.min(0.1), dot(direction, self.soft_box));
        0.12 + self.ambient * 0.8 * above + self.soft_box_strength * soft_box
    }
}

/// Cast shadows: from each point a few steps towards the lamp, over the height field.
struct Shadow<'a> {
    heights: &'a [f32],
    size: usize,
    top: f32,
    /// Where each step leads, in pixels, and what the ray has climbed by then, in picture widths.
    steps: [(Vec2, f32); 10],
}

impl<'a> Shadow<'a> {
    fn new(heights: &'a [f32], size: usize, lamp: Vec3) -> Self {
        // The same steps for every surface, so that nothing changes the shadows of what lies far from it. Short ones
        // first: contact shadows are the sharp ones. The last one still meets what is 0.3 picture widths high.
        let steps = std::array::from_fn(|k| {
            let share = (k + 1) as f32 * 0.1;
            let climb = 0.3 * share * share * share;
            (vec2(lamp[0], lamp[1]) * (size as f32 * climb / lamp[2]), climb)
        });
        let top = heights.iter().fold(f32::MIN, |top, &h| top.max(h));
        Self { heights, size, top, steps }
    }

    /// 1 in the light, less in a shadow, with a soft edge.
    fn lit(&self, x: usize, y: usize) -> f32 {
        let last = self.size as f32 - 1.0;
        let ground = self.heights[y * self.size + x];
        let mut hidden: f32 = 0.0;
        for (step, climb) in self.steps {
            let (px, py) = (x as f32 + step.x, y as f32 + step.y);
            if ground + climb > self.top || hidden >= 1.0 || px < 0.0 || py < 0.0 || px > last || py > last {
                break;
            }
            let above = self.heights[py as usize * self.size + px as usize] - ground - climb;
            hidden = hidden.max(above / (0.35 * climb + 0.6 / self.size as f32));
        }
        1.0 - 0.85 * hidden.min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tower_throws_its_shadow_away_from_the_lamp() {
        let tower = |p: Vec2| {
            let high = (p - vec2(0.5, 0.5)).length() < 0.1;
            Texel::matte([0.5; 3], 1.0).at(if high { 0.2 } else { 0.0 })
        };
        let surface = Surface::new(64, tower);
        let mut lighting = Lighting::cell(&mut Dice::new(0, [0; 3]));
        lighting.lamp = towards(0.0, 0.8);
        let light = lighting.shade(&surface);
        let at = |x: usize, y: usize| light[y * 64 + x][1];
        assert!(at(18, 32) < 0.8 * at(48, 32), "{} {}", at(18, 32), at(48, 32));
    }
}
