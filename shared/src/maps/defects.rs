//! Anomaly map and pixel threshold → clean regions, each with place, size, height and outline on the photo.

use crate::maps::metrics::Regions;
use crate::maps::score::AnomalyMap;
use crate::photo::preprocess::Region;

/// A connected part of a photo whose map lies above the pixel threshold. Lengths are in pixels of the photo; they come in steps
/// of the map's pixels, and several pixels of a large photo lie below one of the map.
#[derive(Clone, Debug, PartialEq)]
pub struct Defect {
    /// Bounding box.
    pub bounds: Region,
    /// Area in pixels, with the holes.
    pub area: f64,
    /// Highest value of the map.
    pub peak: f32,
    /// Mean of the map's values above the threshold: what fills a hole does not count.
    pub mean: f32,
    /// Corners `[x, y]` of the outer border, clockwise, without the first one again. Edges run along rows and columns. Where two
    /// parts touch at a corner only, the outline passes it twice.
    pub outline: Vec<[f64; 2]>,
}

/// The regions of a map above `threshold`, highest peak first. `region` is the part of the photo that the map covers.
///
/// Pixels that share an edge or a corner are connected, as for the metric AUPRO. Holes are filled, with what lies inside of them.
/// Regions below `min_area` pixels of the photo are dropped.
pub fn defects(map: &AnomalyMap, region: Region, threshold: f32, min_area: f64) -> Vec<Defect> {
    let size = [map.width, map.height];
    let found = Regions::new(&filled(map, threshold), map.width);
    let steps = [(region.x1 - region.x0) / map.width as f64, (region.y1 - region.y0) / map.height as f64];
    let place = |x: usize, y: usize| [region.x0 + x as f64 * steps[0], region.y0 + y as f64 * steps[1]];
    let mut parts: Vec<Part> = found.areas.iter().map(|&pixels| Part::of(pixels)).collect();
    for (at, &label) in found.labels.iter().enumerate().filter(|&(_, &label)| label > 0) {
        parts[label as usize - 1].add(at, map.width, map.values[at], threshold);
    }
    let defect = |(label, part): (u32, Part)| {
        let ([x0, y0], [x1, y1]) = (place(part.left, part.top), place(part.right, part.bottom));
        Defect {
            bounds: Region { x0, y0, x1, y1 },
            area: part.pixels as f64 * steps[0] * steps[1],
            peak: part.peak,
            mean: (part.sum / part.above as f64) as f32,
            outline: outline(&found.labels, size, label, part.first).into_iter().map(|(x, y)| place(x, y)).collect(),
        }
    };
    let mut defects: Vec<Defect> = (1..).zip(parts).map(defect).filter(|defect| defect.area >= min_area).collect();
    defects.sort_by(|a, b| b.peak.total_cmp(&a.peak));
    defects
}

/// The pixels above the threshold, and those that they enclose.
fn filled(map: &AnomalyMap, threshold: f32) -> Vec<bool> {
    let (width, height) = (map.width, map.height);
    // All but what is reached from the border, over edges: a diagonal line of pixels is closed.
    let mut filled = vec![true; map.values.len()];
    let rows = (0..width).flat_map(|x| [x, (height - 1) * width + x]);
    let columns = (0..height).flat_map(|y| [y * width, y * width + width - 1]);
    let mut reached: Vec<usize> = rows.chain(columns).collect();
    while let Some(at) = reached.pop() {
        if !filled[at] || map.values[at] > threshold {
            continue;
        }
        filled[at] = false;
        let (x, y) = (at % width, at / width);
        let neighbours = [(x > 0, 1), (y > 0, width)].into_iter().filter(|&(inside, _)| inside);
        reached.extend(neighbours.map(|(_, step)| at - step));
        let neighbours = [(x + 1 < width, 1), (y + 1 < height, width)].into_iter().filter(|&(inside, _)| inside);
        reached.extend(neighbours.map(|(_, step)| at + step));
    }
    filled
}

/// What is known of a region on the map.
struct Part {
    /// The first of its pixels, row by row.
    first: usize,
    pixels: usize,
    left: usize,
    top: usize,
    right: usize,
    bottom: usize,
    peak: f32,
    /// Sum and number of the values above the threshold.
    sum: f64,
    above: usize,
}

impl Part {
    fn of(pixels: usize) -> Self {
        let [first, left, top] = [usize::MAX; 3];
        Self { first, pixels, left, top, right: 0, bottom: 0, peak: f32::NEG_INFINITY, sum: 0.0, above: 0 }
    }

    fn add(&mut self, at: usize, width: usize, value: f32, threshold: f32) {
        let (x, y) = (at % width, at / width);
        self.first = self.first.min(at);
        (self.left, self.top) = (self.left.min(x), self.top.min(y));
        (self.right, self.bottom) = (self.right.max(x + 1), self.bottom.max(y + 1));
        if value > threshold {
            self.peak = self.peak.max(value);
            self.sum += f64::from(value);
            self.above += 1;
        }
    }
}

/// Corners of the outer border of a region without holes, clockwise from the upper left one of its first pixel.
fn outline(labels: &[u32], [width, height]: [usize; 2], label: u32, first: usize) -> Vec<(usize, usize)> {
    // Columns and rows right and below of the corner (x, y) have its number, those left and above one less.
    let inside = |x: usize, y: usize| {
        (1..=width).contains(&x) && (1..=height).contains(&y) && labels[(y - 1) * width + x - 1] == label
    };
    let start = (first % width, first / width);
    let ((mut x, mut y), mut direction) = (start, Direction::Right);
    let mut corners = vec![start];
    loop {
        match direction {
            Direction::Right => x += 1,
            Direction::Down => y += 1,
            Direction::Left => x -= 1,
            Direction::Up => y -= 1,
        }
        if (x, y) == start {
            return corners;
        }
        // The two pixels ahead, the region on the right hand.
        let [upper_left, upper_right, lower_left, lower_right] =
            [inside(x, y), inside(x + 1, y), inside(x, y + 1), inside(x + 1, y + 1)];
        let (left, right) = match direction {
            Direction::Right => (upper_right, lower_right),
            Direction::Down => (lower_right, lower_left),
            Direction::Left => (lower_left, upper_left),
            Direction::Up => (upper_left, upper_right),
        };
        // To the left even past a corner, so that parts that touch there stay in one outline.
        if left {
            direction = direction.turned(3);
        } else if !right {
            direction = direction.turned(1);
        } else {
            continue;
        }
        corners.push((x, y));
    }
}

#[derive(Clone, Copy)]
enum Direction {
    Right,
    Down,
    Left,
    Up,
}

impl Direction {
    /// Turned clockwise by so many right angles.
    fn turned(self, quarters: usize) -> Self {
        [Self::Right, Self::Down, Self::Left, Self::Up][(self as usize + quarters) % 4]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A map of rows in which a digit is its tenth.
    fn map(rows: &[&str]) -> AnomalyMap {
        let value = |byte: u8| if byte == b'.' { 0.0 } else { f32::from(byte - b'0') / 10.0 };
        let values = rows.iter().flat_map(|row| row.bytes().map(value)).collect();
        AnomalyMap { width: rows[0].len(), height: rows.len(), values }
    }

    fn whole(width: usize, height: usize) -> Region {
        Region { x0: 0.0, y0: 0.0, x1: width as f64, y1: height as f64 }
    }

    fn found(rows: &[&str], min_area: f64) -> Vec<Defect> {
        defects(&map(rows), whole(rows[0].len(), rows.len()), 0.5, min_area)
    }

    /// Area of a polygon by the shoelace formula; positive if it is clockwise on the screen.
    fn enclosed(outline: &[[f64; 2]]) -> f64 {
        let next = outline.iter().cycle().skip(1);
        outline.iter().zip(next).map(|(a, b)| a[0] * b[1] - b[0] * a[1]).sum::<f64>() / 2.0
    }

    #[test]
    fn each_region_has_its_place_size_and_height() {
        let found = found(
            &["........", ".67.....", ".66.....", "........", "......8.", ".....56.", "........", "........"],
            0.0,
        );
        assert_eq!(found.len(), 2);
        // The threshold itself is no defect.
        assert_eq!((found[0].peak, found[0].area), (0.8, 2.0));
        assert_eq!(found[0].bounds, Region { x0: 6.0, y0: 4.0, x1: 7.0, y1: 6.0 });
        assert_eq!((found[1].peak, found[1].area), (0.7, 4.0));
        assert!((found[1].mean - 0.625).abs() < 1e-6);
        assert_eq!(found[1].outline, [[1.0, 1.0], [3.0, 1.0], [3.0, 3.0], [1.0, 3.0]]);
    }

    #[test]
    fn holes_are_filled_with_what_lies_in_them() {
        let ring = ["66666", "6...6", "6.9.6", "6...6", "66666"];
        let found = found(&ring, 0.0);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].area, found[0].peak), (25.0, 0.9));
        assert!((found[0].mean - (16.0 * 0.6 + 0.9) / 17.0).abs() < 1e-6);
        assert_eq!(found[0].outline.len(), 4);
    }

    #[test]
    fn a_bay_is_no_hole_and_a_diagonal_closes_one() {
        let open = ["666.", "6.6.", "6.6.", "...."];
        assert_eq!(found(&open, 0.0)[0].area, 7.0);
        let diamond = [".6..", "6.6.", ".6..", "...."];
        assert_eq!(found(&diamond, 0.0)[0].area, 5.0);
        // What the map's border closes is open: the photo goes on there.
        let at_border = ["6..6", "6..6", "6666", "...."];
        assert_eq!(found(&at_border, 0.0)[0].area, 8.0);
    }

    #[test]
    fn small_regions_are_dropped_by_their_area_on_the_photo() {
        let rows = ["6...", "....", "..66", "...."];
        // A pixel of the map covers 10 × 5 of the photo.
        let region = Region { x0: 20.0, y0: 8.0, x1: 60.0, y1: 28.0 };
        let of = |min_area| defects(&map(&rows), region, 0.5, min_area);
        assert_eq!(of(0.0).len(), 2);
        assert_eq!((of(50.0).len(), of(51.0).len(), of(100.5).len()), (2, 1, 0));
        let [only] = of(51.0).try_into().unwrap();
        assert_eq!((only.area, only.bounds), (100.0, Region { x0: 40.0, y0: 18.0, x1: 60.0, y1: 23.0 }));
        assert_eq!(only.outline, [[40.0, 18.0], [60.0, 18.0], [60.0, 23.0], [40.0, 23.0]]);
    }

    #[test]
    fn parts_that_touch_at_a_corner_share_an_outline() {
        let found = found(&["6...", ".6..", "..6.", "6..."], 0.0);
        assert_eq!(found.iter().map(|defect| defect.area).collect::<Vec<_>>(), [3.0, 1.0]);
        assert_eq!(enclosed(&found[0].outline), 3.0);
    }

    #[test]
    fn nothing_above_the_threshold_is_no_region() {
        assert!(found(&["55", "55"], 0.0).is_empty());
        assert_eq!(found(&["66", "66"], 0.0)[0].area, 4.0);
        let none = AnomalyMap::square(0, Vec::new());
        assert!(defects(&none, whole(1, 1), 0.5, 0.0).is_empty());
        let not_a_number = AnomalyMap::square(1, vec![f32::NAN]);
        assert!(defects(&not_a_number, whole(1, 1), 0.5, 0.0).is_empty());
    }

    /// Arbitrary maps of every density: each outline encloses its region's area, and regions and holes are those of a plain search.
    #[test]
    fn outlines_enclose_their_regions() {
        let mut state = 7u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32
        };
        for run in 0..300 {
            let (width, height) = (1 + run % 13, 1 + run % 11);
            let map = AnomalyMap { width, height, values: (0..width * height).map(|_| random()).collect() };
            let threshold = [0.2, 0.4, 0.6, 0.9][run % 4];
            let found = defects(&map, whole(width, height), threshold, 0.0);
            for defect in &found {
                assert!((enclosed(&defect.outline) - defect.area).abs() < 1e-9, "{map:?}: {defect:?}");
                let xs = defect.outline.iter().map(|corner| corner[0]);
                assert_eq!(xs.clone().fold(f64::INFINITY, f64::min), defect.bounds.x0);
                assert_eq!(xs.fold(0.0, f64::max), defect.bounds.x1);
                assert!(defect.mean > threshold && defect.mean <= defect.peak);
            }
            // A pixel is background if some path over edges leads from it out of the map.
            let mut outside: Vec<bool> = vec![false; width * height];
            for _ in 0..width * height {
                for at in 0..width * height {
                    let (x, y) = (at % width, at / width);
                    let beside = x == 0
                        || y == 0
                        || x + 1 == width
                        || y + 1 == height
                        || [at - 1, at + 1, at - width, at + width].iter().any(|&next| outside[next]);
                    outside[at] |= beside && map.values[at] <= threshold;
                }
            }
            let inside = outside.iter().filter(|&&outside| !outside).count() as f64;
            assert_eq!(found.iter().map(|defect| defect.area).sum::<f64>(), inside, "{map:?}");
            assert!(found.is_sorted_by(|a, b| a.peak >= b.peak));
        }
    }
}
