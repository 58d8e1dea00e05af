//! Anomaly map → heatmap, alone or over its photo.

use std::ops::Range;

use crate::maps::score::AnomalyMap;
use crate::{Error, Result};

/// Region of the photo that the map covers: `(x0, y0, x1, y1)` in pixels of the photo.
pub type PhotoRegion = (f64, f64, f64, f64);

/// Colour of a value from 0 (normal) to 1 (anomalous); values beyond are clamped, NaN is 0.
///
/// The colour map is "inferno": perceptually uniform, of rising lightness, readable for colour-blind people.
pub fn colour(value: f32) -> [u8; 3] {
    let [_, rgb @ ..] = INFERNO[(value.clamp(0.0, 1.0) * 255.0).round() as usize].to_be_bytes();
    rgb
}

/// Heatmap in the map's own size, to be drawn over the photo: `[height, width, 4]`, RGBA, transparent where the map is normal.
/// `range` are the values of the first and the last colour.
pub fn heat_rgba(map: &AnomalyMap, range: (f32, f32)) -> Vec<u8> {
    let pixel = |&value: &f32| {
        let value = normalised(value, range);
        let [r, g, b] = colour(value);
        [r, g, b, (255.0 * presence(value)).round() as u8]
    };
    map.values.iter().flat_map(pixel).collect()
}

/// Range with the threshold in the middle.
pub fn range_around(threshold: f32) -> (f32, f32) {
    (0.0, 2.0 * threshold)
}

/// Heatmap over its photo, in the photo's own size: `[height, width, 3]`, RGB.
///
/// Inside `region` the interpolated map covers the photo with `opacity` 0..1 where it is anomalous, and less where it is
/// normal. Outside, which the detector has not seen, the photo is grey and hatched at any opacity.
///
/// # Errors
/// [`Error::Shape`] if the photo is not `height · width · 3` bytes or the map not as many values as it has pixels.
pub fn overlay(
    photo_rgb: &[u8],
    width: usize,
    height: usize,
    map: &AnomalyMap,
    region: PhotoRegion,
    range: (f32, f32),
    opacity: f32,
) -> Result<Vec<u8>> {
    let refuse =
        |name: &str, expected: Vec<usize>, found| Err(Error::Shape { name: name.into(), expected, found: vec![found] });
    if photo_rgb.len() != height * width * 3 {
        return refuse("photo under a heatmap", vec![height, width, 3], photo_rgb.len());
    }
    if map.values.len() != map.height * map.width || map.values.is_empty() {
        return refuse("anomaly map of a heatmap", vec![map.height, map.width], map.values.len());
    }
    let opacity = if opacity.is_nan() { 0.0 } else { opacity.clamp(0.0, 1.0) };
    let stripe = (width.min(height) / 50).max(2);
    let mut pixels = photo_rgb.to_vec();
    if pixels.is_empty() {
        return Ok(pixels);
    }

    let columns = covered(region.0, region.2, width);
    let rows = covered(region.1, region.3, height);
    let across: Vec<Between> = columns.clone().map(|x| Between::new(x, region.0, region.2, map.width)).collect();
    for (y, line) in pixels.chunks_exact_mut(width * 3).enumerate() {
        let inside = if rows.contains(&y) { columns.clone() } else { 0..0 };
        if !inside.is_empty() {
            let values = Between::new(y, region.1, region.3, map.height).row(map);
            for (at, pixel) in across.iter().zip(line[inside.start * 3..].chunks_exact_mut(3)) {
                let value = normalised(at.blend(values[at.first], values[at.second]), range);
                let opacity = opacity * presence(value);
                for (p, h) in pixel.iter_mut().zip(colour(value)) {
                    *p = (f32::from(*p) * (1.0 - opacity) + f32::from(h) * opacity).round() as u8;
                }
            }
        }
        for (x, pixel) in line.chunks_exact_mut(3).enumerate().filter(|(x, _)| !inside.contains(x)) {
            pixel.fill(hatched([pixel[0], pixel[1], pixel[2]], ((x + y) / stripe).is_multiple_of(2)));
        }
    }
    Ok(pixels)
}

/// The map's value at each pixel of its photo, interpolated: `[height, width]`; 0 outside of `region`, which the detector has not seen.
///
/// # Errors
/// [`Error::Shape`] if the map has not as many values as it has pixels.
pub fn on_photo(map: &AnomalyMap, region: PhotoRegion, width: usize, height: usize) -> Result<Vec<f32>> {
    if map.values.len() != map.height * map.width || map.values.is_empty() {
        let (expected, found) = (vec![map.height, map.width], vec![map.values.len()]);
        return Err(Error::Shape { name: "anomaly map of a photo".into(), expected, found });
    }
    let mut pixels = vec![0.0; width * height];
    let (columns, rows) = (covered(region.0, region.2, width), covered(region.1, region.3, height));
    let across: Vec<Between> = columns.clone().map(|x| Between::new(x, region.0, region.2, map.width)).collect();
    for y in rows {
        let values = Between::new(y, region.1, region.3, map.height).row(map);
        for (at, pixel) in across.iter().zip(&mut pixels[y * width + columns.start..]) {
            *pixel = at.blend(values[at.first], values[at.second]);
        }
    }
    Ok(pixels)
}

/// Opacity of the heatmap along the colour scale: 0 for normal values, so that they do not hide the photo, 1 from the middle on.
fn presence(value: f32) -> f32 {
    let x = ((value - 0.2) / 0.3).clamp(0.0, 1.0);
    x * x * (3.0 - 2.0 * x)
}

/// Position of a value in a range, 0..1. In an empty range larger values are 1, others 0.
fn normalised(value: f32, (low, high): (f32, f32)) -> f32 {
    if high > low { ((value - low) / (high - low)).clamp(0.0, 1.0) } else { f32::from(u8::from(value > low)) }
}

/// Pixels whose centres lie in `start..end`.
fn covered(start: f64, end: f64, pixels: usize) -> Range<usize> {
    let pixel = |edge: f64| ((edge - 0.5).ceil().max(0.0) as usize).min(pixels);
    pixel(start)..pixel(end)
}

/// Pixel of the uncovered border: half its lightness, half a stripe.
fn hatched([r, g, b]: [u8; 3], light: bool) -> u8 {
    let luma = (299 * u32::from(r) + 587 * u32::from(g) + 114 * u32::from(b)) / 1000;
    ((luma + if light { 190 } else { 110 }) / 2) as u8
}

/// Position of a photo pixel's centre between the centres of two rows (or columns) of the map.
struct Between {
    first: usize,
    second: usize,
    /// Weight of the second.
    weight: f32,
}

impl Between {
    fn new(pixel: usize, start: f64, end: f64, side: usize) -> Self {
        let at = (pixel as f64 + 0.5 - start) / (end - start) * side as f64 - 0.5;
        let at = at.clamp(0.0, (side - 1) as f64);
        let first = at as usize;
        Self { first, second: (first + 1).min(side - 1), weight: (at - first as f64) as f32 }
    }

    fn blend(&self, first: f32, second: f32) -> f32 {
        first * (1.0 - self.weight) + second * self.weight
    }

    /// Row of the map interpolated between two of its rows.
    fn row(&self, map: &AnomalyMap) -> Vec<f32> {
        let row = |y: usize| &map.values[y * map.width..][..map.width];
        row(self.first).iter().zip(row(self.second)).map(|(&a, &b)| self.blend(a, b)).collect()
    }
}

/// Colour map "inferno" by Nathaniel J. Smith and Stefan van der Walt (<https://github.com/BIDS/colormap>, CC0 1.0): the table
/// of matplotlib rounded to bytes, `0xRRGGBB` for 0, 1/255, …, 1.
#[rustfmt::skip]
const INFERNO: [u32; 256] = [
    0x000004, 0x010005, 0x010106, 0x010108, 0x02010a, 0x02020c, 0x02020e, 0x030210, 0x040312, 0x040314, 0x050417,
    0x060419, 0x07051b, 0x08051d, 0x09061f, 0x0a0722, 0x0b0724, 0x0c0826, 0x0d0829, 0x0e092b, 0x10092d, 0x110a30,
    0x120a32, 0x140b34, 0x150b37, 0x160b39, 0x180c3c, 0x190c3e, 0x1b0c41, 0x1c0c43, 0x1e0c45, 0x1f0c48, 0x210c4a,
    0x230c4c, 0x240c4f, 0x260c51, 0x280b53, 0x290b55, 0x2b0b57, 0x2d0b59, 0x2f0a5b, 0x310a5c, 0x320a5e, 0x340a5f,
    0x360961, 0x380962, 0x390963, 0x3b0964, 0x3d0965, 0x3e0966, 0x400a67, 0x420a68, 0x440a68, 0x450a69, 0x470b6a,
    0x490b6a, 0x4a0c6b, 0x4c0c6b, 0x4d0d6c, 0x4f0d6c, 0x510e6c, 0x520e6d, 0x540f6d, 0x550f6d, 0x57106e, 0x59106e,
    0x5a116e, 0x5c126e, 0x5d126e, 0x5f136e, 0x61136e, 0x62146e, 0x64156e, 0x65156e, 0x67166e, 0x69166e, 0x6a176e,
    0x6c186e, 0x6d186e, 0x6f196e, 0x71196e, 0x721a6e, 0x741a6e, 0x751b6e, 0x771c6d, 0x781c6d, 0x7a1d6d, 0x7c1d6d,
    0x7d1e6d, 0x7f1e6c, 0x801f6c, 0x82206c, 0x84206b, 0x85216b, 0x87216b, 0x88226a, 0x8a226a, 0x8c2369, 0x8d2369,
    0x8f2469, 0x902568, 0x922568, 0x932667, 0x952667, 0x972766, 0x982766, 0x9a2865, 0x9b2964, 0x9d2964, 0x9f2a63,
    0xa02a63, 0xa22b62, 0xa32c61, 0xa52c60, 0xa62d60, 0xa82e5f, 0xa92e5e, 0xab2f5e, 0xad305d, 0xae305c, 0xb0315b,
    0xb1325a, 0xb3325a, 0xb43359, 0xb63458, 0xb73557, 0xb93556, 0xba3655, 0xbc3754, 0xbd3853, 0xbf3952, 0xc03a51,
    0xc13a50, 0xc33b4f, 0xc43c4e, 0xc63d4d, 0xc73e4c, 0xc83f4b, 0xca404a, 0xcb4149, 0xcc4248, 0xce4347, 0xcf4446,
    0xd04545, 0xd24644, 0xd34743, 0xd44842, 0xd54a41, 0xd74b3f, 0xd84c3e, 0xd94d3d, 0xda4e3c, 0xdb503b, 0xdd513a,
    0xde5238, 0xdf5337, 0xe05536, 0xe15635, 0xe25734, 0xe35933, 0xe45a31, 0xe55c30, 0xe65d2f, 0xe75e2e, 0xe8602d,
    0xe9612b, 0xea632a, 0xeb6429, 0xeb6628, 0xec6726, 0xed6925, 0xee6a24, 0xef6c23, 0xef6e21, 0xf06f20, 0xf1711f,
    0xf1731d, 0xf2741c, 0xf3761b, 0xf37819, 0xf47918, 0xf57b17, 0xf57d15, 0xf67e14, 0xf68013, 0xf78212, 0xf78410,
    0xf8850f, 0xf8870e, 0xf8890c, 0xf98b0b, 0xf98c0a, 0xf98e09, 0xfa9008, 0xfa9207, 0xfa9407, 0xfb9606, 0xfb9706,
    0xfb9906, 0xfb9b06, 0xfb9d07, 0xfc9f07, 0xfca108, 0xfca309, 0xfca50a, 0xfca60c, 0xfca80d, 0xfcaa0f, 0xfcac11,
    0xfcae12, 0xfcb014, 0xfcb216, 0xfcb418, 0xfbb61a, 0xfbb81d, 0xfbba1f, 0xfbbc21, 0xfbbe23, 0xfac026, 0xfac228,
    0xfac42a, 0xfac62d, 0xf9c72f, 0xf9c932, 0xf9cb35, 0xf8cd37, 0xf8cf3a, 0xf7d13d, 0xf7d340, 0xf6d543, 0xf6d746,
    0xf5d949, 0xf5db4c, 0xf4dd4f, 0xf4df53, 0xf4e156, 0xf3e35a, 0xf3e55d, 0xf2e661, 0xf2e865, 0xf2ea69, 0xf1ec6d,
    0xf1ed71, 0xf1ef75, 0xf1f179, 0xf2f27d, 0xf2f482, 0xf3f586, 0xf3f68a, 0xf4f88e, 0xf5f992, 0xf6fa96, 0xf8fb9a,
    0xf9fc9d, 0xfafda1, 0xfcffa4,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_on_its_photo_is_interpolated_and_zero_where_nothing_was_seen() {
        let map = AnomalyMap { width: 2, height: 1, values: vec![0.0, 1.0] };
        assert_eq!(on_photo(&map, (0.0, 0.0, 4.0, 1.0), 4, 1).unwrap(), [0.0, 0.25, 0.75, 1.0]);
        let seen = on_photo(&map, (1.0, 1.0, 3.0, 2.0), 4, 3).unwrap();
        assert_eq!(seen, [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert!(on_photo(&AnomalyMap { width: 3, ..map }, (0.0, 0.0, 4.0, 1.0), 4, 1).is_err());
    }

    const WHOLE: PhotoRegion = (0.0, 0.0, 8.0, 4.0);

    fn map(values: &[f32]) -> AnomalyMap {
        AnomalyMap::square(values.len().isqrt(), values.to_vec())
    }

    fn pixel(picture: &[u8], width: usize, x: usize, y: usize) -> [u8; 3] {
        picture[(y * width + x) * 3..][..3].try_into().unwrap()
    }

    #[test]
    fn colours_grow_lighter() {
        let lightness =
            |rgb: [u8; 3]| 0.299 * f32::from(rgb[0]) + 0.587 * f32::from(rgb[1]) + 0.114 * f32::from(rgb[2]);
        let table: Vec<f32> = (0..256).map(|i| lightness(colour(i as f32 / 255.0))).collect();
        // Rounded to bytes, lightness may fall by less than one level per step.
        assert!(table.windows(2).all(|pair| pair[1] > pair[0] - 1.0));
        assert!(table.windows(9).all(|run| run[8] > run[0] + 1.0), "rising over any eight steps");
        assert_eq!([colour(-1.0), colour(f32::NAN), colour(2.0)], [[0, 0, 4], [0, 0, 4], [252, 255, 164]]);
        assert_eq!(colour(0.5), [188, 55, 84], "the middle of matplotlib's table");
    }

    #[test]
    fn range_spans_the_colours() {
        let heat = heat_rgba(&map(&[0.2, 0.3, 0.4, 0.9]), (0.2, 0.4));
        assert_eq!(heat[..4], [0, 0, 4, 0]);
        assert_eq!(heat[8..], [252, 255, 164, 255, 252, 255, 164, 255]);
        let flat = heat_rgba(&map(&[0.2, 0.3, 0.4, 0.9]), (0.3, 0.3));
        assert_eq!(flat[..4], flat[4..8], "not above a range without extent");
        assert_eq!(flat[8..12], [252, 255, 164, 255]);
    }

    #[test]
    fn the_map_is_stretched_over_the_region() {
        let heat = overlay(&[0; 96], 8, 4, &map(&[0.5, 1.0, 0.5, 1.0]), WHOLE, (0.0, 1.0), 1.0).unwrap();
        assert_eq!(pixel(&heat, 8, 0, 0), colour(0.5));
        assert_eq!(pixel(&heat, 8, 7, 3), colour(1.0));
        // Centres of the map's columns lie at 2 and 6 of 8 pixels.
        assert_eq!(pixel(&heat, 8, 3, 1), colour(0.6875));
    }

    #[test]
    fn a_map_may_be_wider_than_high() {
        let map = AnomalyMap { width: 4, height: 1, values: vec![0.5, 0.5, 1.0, 0.5] };
        let heat = overlay(&[0; 96], 8, 4, &map, WHOLE, (0.0, 1.0), 1.0).unwrap();
        // Centres of the map's columns lie at 1, 3, 5 and 7 of 8 pixels.
        let found = [0, 4, 5, 7].map(|x| pixel(&heat, 8, x, 3));
        assert_eq!(found, [0.5, 0.875, 0.875, 0.5].map(colour));
    }

    #[test]
    fn a_defect_is_drawn_where_it_is() {
        let mut values = vec![0.0; 64];
        values[2 * 8 + 5] = 1.0;
        let region = (10.0, 30.0, 90.0, 70.0);
        let heat = overlay(&vec![0; 100 * 80 * 3], 100, 80, &map(&values), region, (0.0, 1.0), 1.0).unwrap();
        let inside = (30..70).flat_map(|y| (10..90).map(move |x| (x, y)));
        let (x, y) = inside.max_by_key(|&(x, y)| pixel(&heat, 100, x, y)[1]).unwrap();
        // Map pixel (5, 2) is photo pixels 60..70, 40..45.
        assert!((60..70).contains(&x) && (40..45).contains(&y), "{x}, {y}");
    }

    #[test]
    fn usual_places_are_seen_as_they_are() {
        let photo: Vec<u8> = (0..96).collect();
        let draw = |value| overlay(&photo, 8, 4, &map(&[value]), WHOLE, (0.0, 1.0), 1.0).unwrap();
        assert_eq!(draw(0.2), photo);
        assert_eq!(pixel(&draw(0.5), 8, 0, 0), colour(0.5));
        let steps: Vec<u8> = (0..=10).map(|i| heat_rgba(&map(&[i as f32 / 10.0]), (0.0, 1.0))[3]).collect();
        assert_eq!(steps, [0, 0, 0, 66, 189, 255, 255, 255, 255, 255, 255]);
    }

    #[test]
    fn opacity_mixes_and_zero_leaves_the_photo() {
        let photo: Vec<u8> = (0..96).collect();
        let draw = |opacity| overlay(&photo, 8, 4, &map(&[1.0]), WHOLE, (0.0, 1.0), opacity).unwrap();
        assert_eq!(draw(0.0), photo);
        assert_eq!(draw(f32::NAN), photo);
        assert_eq!(pixel(&draw(0.5), 8, 0, 0), [126, 128, 83]);
        assert_eq!(pixel(&draw(7.0), 8, 3, 3), [252, 255, 164]);
    }

    #[test]
    fn the_uncovered_border_is_grey_and_hatched_at_any_opacity() {
        let photo = [200, 40, 90].repeat(40 * 20);
        let region = (5.0, 2.5, 35.0, 17.5);
        for opacity in [0.0, 1.0] {
            let heat = overlay(&photo, 40, 20, &map(&[0.0]), region, (0.0, 1.0), opacity).unwrap();
            let is_border = |x: usize, y: usize| !((5..35).contains(&x) && (2..17).contains(&y));
            let mut shades = std::collections::BTreeSet::new();
            for (x, y) in (0..40).flat_map(|x| (0..20).map(move |y| (x, y))) {
                let [r, g, b] = pixel(&heat, 40, x, y);
                assert_eq!(r == g && g == b, is_border(x, y), "{x}, {y} at {opacity}: {r} {g} {b}");
                if is_border(x, y) {
                    shades.insert(r);
                }
            }
            assert_eq!(shades.len(), 2, "two stripes");
        }
    }

    #[test]
    fn odd_regions_and_photos_are_drawn() {
        let draw = |width, height, region| {
            overlay(&vec![9; width * height * 3], width, height, &map(&[0.5]), region, (0.0, 1.0), 0.5).unwrap()
        };
        assert_eq!(draw(1, 1, (0.0, 0.0, 1.0, 1.0)).len(), 3);
        assert_eq!(draw(0, 4, WHOLE).len(), 0);
        let nowhere = draw(4, 4, (2.0, 2.0, 2.0, 2.0));
        assert!(nowhere.chunks_exact(3).all(|p| p[0] == p[1] && p[1] == p[2]), "nothing is covered");
        assert!(draw(4, 4, (-9.0, -9.0, 99.0, 99.0)).iter().any(|&v| v != 9), "a region larger than the photo");
    }

    #[test]
    fn wrong_sizes_are_refused() {
        let message =
            |photo: &[u8], map: &AnomalyMap| overlay(photo, 2, 2, map, WHOLE, (0.0, 1.0), 0.5).unwrap_err().to_string();
        assert!(
            message(&[0; 11], &map(&[0.5])).contains("photo under a heatmap: expected shape [2, 2, 3], found [11]")
        );
        let torn = AnomalyMap::square(2, vec![0.0; 3]);
        assert!(message(&[0; 12], &torn).contains("expected shape [2, 2], found [3]"));
    }
}
