//! Outlines of regions on a picture.

/// Colour of outlines: none of the heatmap's, and rare on photos.
pub const COLOUR: [u8; 3] = [0, 255, 255];

/// Shorter side of a picture, in widths of a line.
const WIDTHS: usize = 250;

/// Draws a closed line through corners `[x, y]`, in pixels from the upper left corner of the picture `[height, width, 3]`. Its width
/// grows with the picture. What lies outside of the picture is left out.
pub fn draw(rgb: &mut [u8], width: usize, height: usize, corners: &[[f64; 2]], colour: [u8; 3]) {
    let thickness = (width.min(height) / WIDTHS).max(1);
    let next = corners.iter().cycle().skip(1);
    for (&[x0, y0], &[x1, y1]) in corners.iter().zip(next) {
        let steps = (x1 - x0).abs().max((y1 - y0).abs()).ceil().max(1.0);
        for step in 0..=steps as usize {
            let share = step as f64 / steps;
            dot(rgb, [width, height], [x0 + share * (x1 - x0), y0 + share * (y1 - y0)], thickness, colour);
        }
    }
}

/// Fills a square around a place. On the right and lower border it is moved onto the picture.
fn dot(rgb: &mut [u8], [width, height]: [usize; 2], [x, y]: [f64; 2], side: usize, colour: [u8; 3]) {
    let pixels = |at: f64, end: usize| {
        let first = at.floor().min(end as f64 - 1.0) - (side / 2) as f64;
        let end = (first + side as f64).clamp(0.0, end as f64) as usize;
        (first.max(0.0) as usize).min(end)..end
    };
    for row in pixels(y, height) {
        for column in pixels(x, width) {
            rgb[3 * (row * width + column)..][..3].copy_from_slice(&colour);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(width: usize, height: usize, corners: &[[f64; 2]]) -> Vec<String> {
        let mut rgb = vec![0; 3 * width * height];
        draw(&mut rgb, width, height, corners, [9, 8, 7]);
        let shown = |pixel: &[u8]| match pixel {
            [0, 0, 0] => '.',
            [9, 8, 7] => '#',
            _ => '?',
        };
        rgb.chunks_exact(3 * width).map(|row| row.chunks_exact(3).map(shown).collect()).collect()
    }

    #[test]
    fn a_line_runs_around_its_corners() {
        let square = [[1.0, 1.0], [4.0, 1.0], [4.0, 3.0], [1.0, 3.0]];
        assert_eq!(drawn(6, 5, &square), ["......", ".####.", ".#..#.", ".####.", "......"]);
        assert_eq!(drawn(3, 3, &[[0.0, 0.0], [2.0, 2.0]]), ["#..", ".#.", "..#"]);
        assert_eq!(drawn(2, 2, &[]), ["..", ".."]);
    }

    #[test]
    fn it_stays_on_the_picture() {
        let whole = [[0.0, 0.0], [3.0, 0.0], [3.0, 3.0], [0.0, 3.0]];
        assert_eq!(drawn(3, 3, &whole), ["###", "#.#", "###"]);
        let beyond = [[-9.0, 1.0], [9.0, 1.0]];
        assert_eq!(drawn(3, 3, &beyond), ["...", "###", "..."]);
        assert_eq!(drawn(1, 1, &whole), ["#"]);
    }

    #[test]
    fn it_is_wider_on_large_pictures() {
        let rows = drawn(500, 500, &[[10.0, 10.0], [90.0, 10.0]]);
        assert_eq!(rows.iter().filter(|row| row.contains('#')).count(), 2);
    }
}
