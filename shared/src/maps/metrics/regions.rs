//! Connected regions of a mask.

/// The 8-connected regions of a mask: pixels that share an edge or a corner are connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Regions {
    /// Label of each pixel: 0 if normal, else 1 + index of its region.
    pub labels: Vec<u32>,
    /// Number of pixels of each region, in order of their first pixels.
    pub areas: Vec<usize>,
}

impl Regions {
    /// Finds the regions of a mask of whole rows of `width` pixels.
    pub fn new(mask: &[bool], width: usize) -> Self {
        let mut labels = vec![0; mask.len()];
        let mut areas = Vec::new();
        let mut reached = Vec::new();
        for start in 0..mask.len() {
            if !mask[start] || labels[start] != 0 {
                continue;
            }
            let label = areas.len() as u32 + 1;
            let mut area = 0;
            labels[start] = label;
            reached.push(start);
            while let Some(pixel) = reached.pop() {
                area += 1;
                for neighbour in neighbours(pixel, width, mask.len()) {
                    if mask[neighbour] && labels[neighbour] == 0 {
                        labels[neighbour] = label;
                        reached.push(neighbour);
                    }
                }
            }
            areas.push(area);
        }
        Self { labels, areas }
    }
}

/// The pixel itself and its up to eight neighbours, in a picture of `pixels` pixels.
fn neighbours(pixel: usize, width: usize, pixels: usize) -> impl Iterator<Item = usize> {
    let (x, y) = (pixel % width, pixel / width);
    let (left, right) = (x.saturating_sub(1), (x + 1).min(width - 1));
    let (top, bottom) = (y.saturating_sub(1), (y + 1).min(pixels / width - 1));
    (top..=bottom).flat_map(move |y| (left..=right).map(move |x| y * width + x))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regions(rows: &[&str]) -> Regions {
        let mask: Vec<bool> = rows.iter().flat_map(|row| row.bytes().map(|b| b == b'#')).collect();
        Regions::new(&mask, rows[0].len())
    }

    #[test]
    fn diagonal_pixels_are_one_region() {
        assert_eq!(regions(&["#...", ".#..", "..#.", "#..#"]).areas, [4, 1]);
    }

    #[test]
    fn rows_do_not_wrap_around() {
        assert_eq!(regions(&["...#", "#...", "...."]).areas, [1, 1]);
    }

    #[test]
    fn branches_that_meet_late_are_one_region() {
        let found = regions(&["#.#.#", "#.#.#", "#####", ".....", "..#.."]);
        assert_eq!(found.areas, [11, 1]);
        assert_eq!(&found.labels[..5], [1, 0, 1, 0, 1]);
        assert_eq!(found.labels[22], 2);
    }

    #[test]
    fn an_empty_mask_has_none() {
        assert_eq!(regions(&["...", "..."]), Regions { labels: vec![0; 6], areas: vec![] });
    }
}
