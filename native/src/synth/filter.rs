//! Blurs of square fields of values.

use super::draw::Colour;

/// Mean over a square window of side `2·radius + 1`, cut at the border.
pub fn box_blur(values: &[f32], size: usize, radius: usize) -> Vec<f32> {
    let mut rows = vec![0.0; values.len()];
    for (line, out) in values.chunks_exact(size).zip(rows.chunks_exact_mut(size)) {
        let mut sum: f32 = line[..radius.min(size)].iter().sum();
        for (x, out) in out.iter_mut().enumerate() {
            sum += line.get(x + radius).copied().unwrap_or(0.0);
            let first = x.saturating_sub(radius);
            *out = sum / ((x + radius).min(size - 1) - first + 1) as f32;
            if x >= radius {
                sum -= line[first];
            }
        }
    }
    let mut out = vec![0.0; values.len()];
    let mut sums = vec![0.0; size];
    for y in 0..radius.min(size) {
        for (sum, v) in sums.iter_mut().zip(&rows[y * size..]) {
            *sum += v;
        }
    }
    for y in 0..size {
        if y + radius < size {
            for (sum, v) in sums.iter_mut().zip(&rows[(y + radius) * size..]) {
                *sum += v;
            }
        }
        let first = y.saturating_sub(radius);
        let count = ((y + radius).min(size - 1) - first + 1) as f32;
        for (out, sum) in out[y * size..(y + 1) * size].iter_mut().zip(&sums) {
            *out = sum / count;
        }
        if y >= radius {
            for (sum, v) in sums.iter_mut().zip(&rows[first * size..]) {
                *sum -= v;
            }
        }
    }
    out
}

/// Gaussian blur with a standard deviation in pixels, the border repeated.
pub fn blur(light: &mut [Colour], size: usize, sigma: f32) {
    if sigma < 0.2 {
        return;
    }
    let radius = (2.5 * sigma).ceil() as usize;
    let mut weights: Vec<f32> = (0..=radius).map(|k| libm::expf(-((k * k) as f32) / (2.0 * sigma * sigma))).collect();
    let total = weights[0] + 2.0 * weights[1..].iter().sum::<f32>();
    weights.iter_mut().for_each(|w| *w /= total);
    let last = size - 1;
    let pass = |from: &[Colour], to: &mut [Colour], step: usize, cross: usize| {
        for line in 0..size {
            for x in 0..size {
                let at = |k: usize| from[line * cross + k * step];
                let mut sum = at(x).map(|v| v * weights[0]);
                for (k, weight) in weights.iter().enumerate().skip(1) {
                    let (a, b) = (at(x.saturating_sub(k)), at((x + k).min(last)));
                    for c in 0..3 {
                        sum[c] += weight * (a[c] + b[c]);
                    }
                }
                to[line * cross + x * step] = sum;
            }
        }
    };
    let mut rows = light.to_vec();
    pass(light, &mut rows, 1, size);
    pass(&rows, light, size, 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn box_blur_is_the_mean_of_its_window() {
        let size = 7;
        let values: Vec<f32> = (0..size * size).map(|i| ((i * i) % 13) as f32).collect();
        for radius in [1, 2, 9] {
            let blurred = box_blur(&values, size, radius);
            for y in 0..size {
                for x in 0..size {
                    let window = |v: usize| v.saturating_sub(radius)..(v + radius + 1).min(size);
                    let inside: Vec<f32> = window(y)
                        .flat_map(|r| window(x).map(move |c| (r, c)))
                        .map(|(r, c)| values[r * size + c])
                        .collect();
                    let mean = inside.iter().sum::<f32>() / inside.len() as f32;
                    assert!((blurred[y * size + x] - mean).abs() < 1e-4, "{radius} {x} {y}");
                }
            }
        }
    }

    #[test]
    fn blur_keeps_the_light_and_spreads_a_point() {
        let mut light = vec![[0.0; 3]; 21 * 21];
        light[10 * 21 + 10] = [1.0, 2.0, 3.0];
        blur(&mut light, 21, 1.3);
        let total: f32 = light.iter().map(|c| c[1]).sum();
        assert!((total - 2.0).abs() < 1e-4, "{total}");
        let second: f32 = light.iter().enumerate().map(|(i, c)| c[0] * ((i % 21) as f32 - 10.0).powi(2)).sum();
        assert!((second.sqrt() - 1.3).abs() < 0.1, "{second}");
    }
}
