//! The part of a camera's photos that counts: masks or polygons, given once for all of them.

use serde::Deserialize;

use crate::maps::score::{AnomalyMap, mean_of_highest};
use crate::photo::decode::Photo;
use crate::photo::preprocess::Region;
use crate::{Error, Result};

/// From this value on a mask is white.
const WHITE: u8 = 128;

/// An area of photos of one size.
#[derive(Clone, Debug, PartialEq)]
pub struct Area {
    /// Name of its file, for errors.
    name: String,
    shape: Shape,
}

#[derive(Clone, Debug, PartialEq)]
enum Shape {
    Mask { width: u32, height: u32, white: Vec<bool> },
    Polygons(Vec<Vec<[f64; 2]>>),
}

/// JSON of an area.
#[derive(Deserialize)]
#[serde(untagged)]
enum Json {
    One(Vec<[f64; 2]>),
    Many(Vec<Vec<[f64; 2]>>),
}

impl Area {
    /// Reads a picture of the photos' size, white where the area is, or JSON: a polygon `[[x, y], …]` in pixels of the upright photo
    /// from its upper left corner, or a list of polygons. What an odd number of them encloses is in the area. `name` is known to
    /// the user.
    ///
    /// # Errors
    /// [`Error::Area`] if the bytes are neither, or a polygon has fewer than three corners.
    pub fn read(name: &str, bytes: &[u8]) -> Result<Self> {
        let refuse = |reason: String| Error::Area { name: name.into(), reason };
        let shape = if bytes.trim_ascii_start().starts_with(b"[") {
            let json: Json = serde_json::from_slice(bytes)
                .map_err(|_| refuse("is no polygon [[x, y], …] in JSON, and no list of polygons".into()))?;
            let polygons = match json {
                Json::One(polygon) => vec![polygon],
                Json::Many(polygons) => polygons,
            };
            if let Some(polygon) = polygons.iter().find(|polygon| polygon.len() < 3) {
                return Err(refuse(format!("has a polygon of {} corners, expected three or more", polygon.len())));
            }
            Shape::Polygons(polygons)
        } else {
            let mask = Photo::decode(name, bytes)
                .map_err(|error| refuse(format!("is neither a polygon in JSON nor a picture: {error}")))?;
            let white = mask.rgb.chunks_exact(3).map(|pixel| pixel.iter().any(|&value| value >= WHITE)).collect();
            Shape::Mask { width: mask.width, height: mask.height, white }
        };
        Ok(Self { name: name.into(), shape })
    }

    /// Checks that the area was drawn on photos of this size.
    fn check(&self, size: (u32, u32)) -> Result<()> {
        let (width, height) = (f64::from(size.0), f64::from(size.1));
        let outside = |&[x, y]: &[f64; 2]| !((0.0..=width).contains(&x) && (0.0..=height).contains(&y));
        let reason = match &self.shape {
            Shape::Mask { width, height, .. } if (*width, *height) != size => {
                format!("is {width} × {height} pixels, the photo {} × {}: expected the photo's size", size.0, size.1)
            }
            Shape::Polygons(polygons) => match polygons.iter().flatten().find(|corner| outside(corner)) {
                Some([x, y]) => {
                    format!(
                        "has the corner [{x}, {y}], the photo {} × {} pixels: expected corners on it",
                        size.0, size.1
                    )
                }
                None => return Ok(()),
            },
            Shape::Mask { .. } => return Ok(()),
        };
        Err(Error::Area { name: self.name.clone(), reason })
    }

    /// Whether a place of the photo is in the area.
    fn contains(&self, x: f64, y: f64) -> bool {
        match &self.shape {
            Shape::Mask { width, height, white } => {
                let at = |place: f64, end: u32| (place.max(0.0) as usize).min(end as usize - 1);
                white[at(y, *height) * *width as usize + at(x, *width)]
            }
            Shape::Polygons(polygons) => {
                let crossings = polygons.iter().flat_map(|polygon| {
                    let before = polygon.iter().cycle().skip(polygon.len() - 1);
                    // The edges that a ray to the right crosses.
                    polygon.iter().zip(before).filter(|&(&[x0, y0], &[x1, y1])| {
                        (y0 > y) != (y1 > y) && x < x0 + (y - y0) / (y1 - y0) * (x1 - x0)
                    })
                });
                crossings.count() % 2 == 1
            }
        }
    }
}

/// What counts of a camera's photos.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scope {
    /// The area that counts; all of the photo if omitted.
    pub only: Option<Area>,
    /// The area that does not count.
    pub ignore: Option<Area>,
}

/// A map of which a part counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Scoped {
    /// The map, 0 where it does not count.
    pub map: AnomalyMap,
    /// Mean of the highest values that count: the same share of them as of a whole map.
    pub score: f32,
    /// Share of the map that counts.
    pub counted: f64,
}

impl Scope {
    /// Whether all of a photo counts.
    pub fn is_whole(&self) -> bool {
        self.only.is_none() && self.ignore.is_none()
    }

    /// What counts of a map that covers `region` of a photo of this size (width, height). A pixel of the map counts by its centre.
    ///
    /// # Errors
    /// [`Error::Area`] if an area was drawn on photos of another size, or nothing counts.
    pub fn apply(&self, mut map: AnomalyMap, region: Region, size: (u32, u32), score_share: f64) -> Result<Scoped> {
        self.only.iter().chain(&self.ignore).try_for_each(|area| area.check(size))?;
        let (width, height) = (map.width, map.height);
        let mut counting = Vec::with_capacity(map.values.len());
        for (at, value) in map.values.iter_mut().enumerate() {
            let place = |pixel: usize, of: usize, start: f64, end: f64| {
                start + (pixel as f64 + 0.5) / of as f64 * (end - start)
            };
            let x = place(at % width, width, region.x0, region.x1);
            let y = place(at / width, height, region.y0, region.y1);
            let inside = |area: &Option<Area>| area.as_ref().map(|area| area.contains(x, y));
            if inside(&self.only) != Some(false) && inside(&self.ignore) != Some(true) {
                counting.push(*value);
            } else {
                *value = 0.0;
            }
        }
        if counting.is_empty() {
            let names: Vec<&str> = self.only.iter().chain(&self.ignore).map(|area| area.name.as_str()).collect();
            let reason = "leaves nothing of what is looked at: draw an area that does".into();
            return Err(Error::Area { name: names.join(" with "), reason });
        }
        let counted = counting.len() as f64 / map.values.len() as f64;
        Ok(Scoped { score: mean_of_highest(&counting, score_share), map, counted })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(width: u32, rows: &[&str]) -> Vec<u8> {
        let pixels = rows.iter().flat_map(|row| row.bytes()).map(|byte| if byte == b'#' { [200; 3] } else { [100; 3] });
        Photo { width, height: rows.len() as u32, rgb: pixels.flatten().collect() }.to_png().unwrap()
    }

    fn map(side: usize) -> AnomalyMap {
        AnomalyMap::square(side, (1..=side * side).map(|i| i as f32).collect())
    }

    const REGION: Region = Region { x0: 0.0, y0: 0.0, x1: 4.0, y1: 2.0 };

    fn apply(only: Option<&[u8]>, ignore: Option<&[u8]>) -> Result<Scoped> {
        let area = |bytes: &[u8]| Area::read("area", bytes).unwrap();
        let scope = Scope { only: only.map(area), ignore: ignore.map(area) };
        assert_eq!(scope.is_whole(), only.is_none() && ignore.is_none());
        scope.apply(map(2), REGION, (4, 2), 0.5)
    }

    #[test]
    fn only_what_is_white_counts_and_what_is_ignored_does_not() {
        let left = png(4, &["##..", "##.."]);
        let found = apply(Some(&left), None).unwrap();
        assert_eq!((found.map.values, found.counted), (vec![1.0, 0.0, 3.0, 0.0], 0.5));
        // Half of the two values that count, not of four.
        assert_eq!(found.score, 3.0);
        let found = apply(None, Some(&left)).unwrap();
        assert_eq!((found.map.values, found.score), (vec![0.0, 2.0, 0.0, 4.0], 4.0));
        let lower = b"[[0, 1], [4, 1], [4, 2], [0, 2]]";
        let found = apply(Some(&left), Some(lower)).unwrap();
        assert_eq!((found.map.values, found.score, found.counted), (vec![1.0, 0.0, 0.0, 0.0], 1.0, 0.25));
        let all = apply(None, None).unwrap();
        assert_eq!((all.map, all.score, all.counted), (map(2), 3.5, 1.0));
    }

    #[test]
    fn an_area_keeps_its_place_where_only_a_part_is_looked_at() {
        let scope = Scope { only: Some(Area::read("a", &png(8, &["......#.", "........"])).unwrap()), ignore: None };
        let region = Region { x0: 4.0, y0: 0.0, x1: 8.0, y1: 2.0 };
        let found = scope.apply(map(4), region, (8, 2), 1.0).unwrap();
        let counting: Vec<f32> = found.map.values.into_iter().filter(|&value| value > 0.0).collect();
        // The upper two of four rows, which cover half a pixel each, in the third column.
        assert_eq!(counting, [3.0, 7.0]);
    }

    #[test]
    fn polygons_have_bays_and_holes() {
        let area = |json: &str| Area::read("a", json.as_bytes()).unwrap();
        let bay = area("[[0, 0], [8, 0], [8, 8], [6, 8], [6, 2], [2, 2], [2, 8], [0, 8]]");
        let seen = |area: &Area| [(1.0, 5.0), (4.0, 5.0), (7.0, 5.0), (4.0, 1.0)].map(|(x, y)| area.contains(x, y));
        assert_eq!(seen(&bay), [true, false, true, true]);
        let ring = area(" [[[0, 0], [8, 0], [8, 8], [0, 8]], [[2, 2], [6, 2], [6, 6], [2, 6]]]");
        assert_eq!(seen(&ring), [true, false, true, true]);
        assert!(!ring.contains(-1.0, 5.0) && !ring.contains(9.0, 5.0));
    }

    #[test]
    fn what_does_not_fit_is_one_sentence() {
        let other = apply(Some(&png(3, &["###"])), None).unwrap_err().to_string();
        assert_eq!(other, "area is 3 × 1 pixels, the photo 4 × 2: expected the photo's size");
        let outside = apply(Some(b"[[0, 0], [5, 0], [0, 2]]"), None).unwrap_err().to_string();
        assert_eq!(outside, "area has the corner [5, 0], the photo 4 × 2 pixels: expected corners on it");
        let nothing = apply(Some(&png(4, &["....", "...."])), None).unwrap_err().to_string();
        assert!(nothing.contains("leaves nothing"), "{nothing}");
        let unread = |bytes: &[u8]| Area::read("a.json", bytes).unwrap_err().to_string();
        assert!(unread(b"[[0, 0], [1, 1]]").contains("a.json has a polygon of 2 corners"));
        assert!(unread(b"[]").contains("0 corners"));
        assert!(unread(b"[[0, 0, 0]]").contains("is no polygon"), "{}", unread(b"[[0, 0, 0]]"));
        assert!(unread(b"{}").contains("neither a polygon in JSON nor a picture"));
    }
}
