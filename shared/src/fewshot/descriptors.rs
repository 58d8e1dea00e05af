//! Descriptors of good photos → their distribution, by which photos of other products are told.

use crate::bundle::DescriptorStatistics;

/// Descriptors of a photo, and of its turned copies if there are some.
pub type Copies = Vec<Vec<f32>>;

/// Largest number of directions in which good photos are known to differ. Fewer leave out what turned or varied parts look like: boards of many
/// layouts (`pcb`) then lie as far from their mean as other products.
const DIRECTIONS: usize = 8;

/// Number of good photos that tell one direction.
const PHOTOS_OF_A_DIRECTION: usize = 4;

/// Number of parts of the photos that are left out, one at a time.
const FOLDS: usize = 16;

/// Share of good photos that lie beyond the distance that the limit is a multiple of.
const RATE: f64 = 0.01;

/// How many times that distance a photo of the product may lie away. Squared distances of large defects reach 2.5 times that of good photos,
/// those of other products begin at 5 times (`tests/BENCHMARKS.md`).
const BEYOND: f64 = 3.0;

/// What is added to that for few photos: divided by their number. The farthest of four is no measure of the next hundred.
const OF_FEW: f64 = 6.0;

/// Least limit, as a share of how far patches lie from their mean. A defect that covers an eighth of a photo with patches as unlike
/// the others as these are unlike each other moves the mean so far, however alike good photos are.
const LEAST: f64 = 0.03;

/// Steps of the search for directions. More change no verdict of `tests/BENCHMARKS.md`.
const STEPS: usize = 24;

/// The distribution of the descriptors of good photos of one class; `None` without photos.
///
/// The limit is `3 (1 + 6 / n)` times the squared distance that 1 % of the n good photos exceed; of fewer than 100, that of the farthest.
/// Each photo's distance is that to a distribution of others. It is at least 3 % of how far patches lie from their mean.
pub fn statistics(photos: &[Copies]) -> Option<DescriptorStatistics> {
    let rows = |photos: &mut dyn Iterator<Item = &Copies>| -> Vec<Vec<f64>> {
        photos.flatten().map(|row| row.iter().map(|&v| v.into()).collect()).collect()
    };
    let directions = |photos: usize| (photos / PHOTOS_OF_A_DIRECTION).min(DIRECTIONS);
    let all = Distribution::of(&rows(&mut photos.iter()), directions(photos.len()))?;
    let folds = FOLDS.min(photos.len());
    let mut distances = Vec::with_capacity(photos.len());
    for fold in (0..folds).filter(|_| folds > 1) {
        let mut others = photos.iter().enumerate().filter(|(i, _)| i % folds != fold).map(|(_, photo)| photo);
        let others = Distribution::of(&rows(&mut others), directions(photos.len()))?;
        for row in photos.iter().skip(fold).step_by(folds).flatten() {
            distances.push(others.distance(&row.iter().map(|&v| v.into()).collect::<Vec<_>>()));
        }
    }
    distances.sort_by(f64::total_cmp);
    let beyond = (RATE * distances.len() as f64) as usize;
    let farthest = distances.get(distances.len().wrapping_sub(1 + beyond)).copied().unwrap_or(0.0);
    // Descriptors are means of unit vectors.
    let scattered = (1.0 - dot(&all.centre, &all.centre)).max(f64::from(f32::EPSILON));
    let f32 = |values: &[f64]| values.iter().map(|&v| v as f32).collect::<Vec<_>>();
    let beyond = BEYOND * (1.0 + OF_FEW / photos.len() as f64);
    let limit = (beyond * farthest).max(LEAST * scattered) as f32;
    Some(DescriptorStatistics::new(&f32(&all.centre), &f32(&all.directions.concat()), limit))
}

/// Mean of rows, and directions of their largest variance.
struct Distribution {
    centre: Vec<f64>,
    directions: Vec<Vec<f64>>,
}

impl Distribution {
    /// `None` without rows. The directions are found by subspace iteration from the rows themselves, so that the same rows give the
    /// same ones.
    fn of(rows: &[Vec<f64>], directions: usize) -> Option<Self> {
        let width = rows.first()?.len();
        let mut centre = vec![0.0; width];
        rows.iter().for_each(|row| add(&mut centre, 1.0 / rows.len() as f64, row));
        let off: Vec<Vec<f64>> = rows.iter().map(|row| row.iter().zip(&centre).map(|(v, c)| v - c).collect()).collect();
        // The farthest rows point most clearly.
        let mut order: Vec<usize> = (0..off.len()).collect();
        order.sort_by(|&a, &b| dot(&off[b], &off[b]).total_cmp(&dot(&off[a], &off[a])));
        let mut found = orthonormal(order.iter().map(|&i| off[i].clone()), directions);
        for _ in 0..STEPS {
            let turned = found.iter().map(|direction| {
                let mut sum = vec![0.0; width];
                off.iter().for_each(|row| add(&mut sum, dot(row, direction), row));
                sum
            });
            found = orthonormal(turned.collect::<Vec<_>>().into_iter(), directions);
        }
        Some(Self { centre, directions: found })
    }

    fn distance(&self, row: &[f64]) -> f64 {
        let off: Vec<f64> = row.iter().zip(&self.centre).map(|(v, c)| v - c).collect();
        let explained: f64 = self.directions.iter().map(|direction| dot(&off, direction).powi(2)).sum();
        (dot(&off, &off) - explained).max(0.0)
    }
}

/// At most so many orthonormal rows that span the first ones of these (Gram and Schmidt); rows that the earlier ones span are left out.
fn orthonormal(rows: impl Iterator<Item = Vec<f64>>, most: usize) -> Vec<Vec<f64>> {
    let mut found: Vec<Vec<f64>> = Vec::new();
    for mut row in rows {
        if found.len() == most {
            break;
        }
        let before = dot(&row, &row).sqrt();
        // Twice is enough (Giraud and others, 2005).
        for _ in 0..2 {
            for direction in &found {
                let along = dot(&row, direction);
                add(&mut row, -along, direction);
            }
        }
        let norm = dot(&row, &row).sqrt();
        if norm > 1e-6 * before && norm > 1e-12 {
            row.iter_mut().for_each(|value| *value /= norm);
            found.push(row);
        }
    }
    found
}

fn add(sum: &mut [f64], factor: f64, row: &[f64]) {
    sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += factor * value);
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// A photo around (0.5, 0, …) that varies much along the second axis and little along all.
    fn photo(random: &mut ChaCha8Rng, along: f32) -> Copies {
        let mut row: Vec<f32> = (0..12).map(|_| 0.01 * (random.random::<f32>() - 0.5)).collect();
        row[0] += 0.5;
        row[1] += along * (random.random::<f32>() - 0.5);
        vec![row]
    }

    #[test]
    fn what_good_photos_vary_in_does_not_count_and_everything_else_does() {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let photos: Vec<Copies> = (0..40).map(|_| photo(&mut random, 0.8)).collect();
        let found = statistics(&photos).unwrap();
        assert_eq!((found.centre.len(), found.directions.len()), (12, 8 * 12));
        assert!((found.centre[0] - 0.5).abs() < 0.01 && found.directions[1].abs() > 0.99, "{found:?}");
        // What is left is little: 0.03 · (1 - 0.25) is more.
        assert!((found.limit - 0.0225).abs() < 1e-3, "{}", found.limit);
        let distance = |of: &[(usize, f32)]| {
            let mut row = found.centre.clone();
            of.iter().for_each(|&(axis, by)| row[axis] += by);
            found.distance(&row).unwrap() / f64::from(found.limit)
        };
        assert!(distance(&[(1, 0.4)]) < 0.01 && distance(&[(1, 2.0)]) < 0.1);
        // Eight of twelve directions are known: of a step along each axis, four remain.
        let remaining: f64 = (0..12).map(|axis| distance(&[(axis, 1.0)])).sum::<f64>() * f64::from(found.limit);
        assert!((remaining - 4.0).abs() < 1e-2, "{remaining}");
    }

    #[test]
    fn the_limit_is_three_times_the_distance_of_the_farthest_but_one_in_a_hundred() {
        let mut random = ChaCha8Rng::seed_from_u64(6);
        // Uniform in three directions and more than eight others.
        let spread = |random: &mut ChaCha8Rng| -> Copies {
            vec![(0..40).map(|_| 0.3 * (random.random::<f32>() - 0.5)).collect()]
        };
        let mut photos: Vec<Copies> = (0..150).map(|_| spread(&mut random)).collect();
        let limit = statistics(&photos).unwrap().limit;
        let inside = |limit: f32, photos: &[Copies]| {
            let found = statistics(photos).unwrap();
            photos.iter().filter(|photo| found.distance(&photo[0]).unwrap() * 3.12 <= f64::from(limit)).count()
        };
        assert!(inside(limit, &photos) >= 148, "{}", inside(limit, &photos));
        // One photo of something else among them is no reason to know it.
        photos.push(vec![vec![0.6; 40]]);
        let found = statistics(&photos).unwrap();
        assert!(found.limit < 1.3 * limit, "{} and {limit}", found.limit);
    }

    #[test]
    fn few_photos_have_no_directions_and_a_limit_of_their_scatter() {
        assert_eq!(statistics(&[]), None);
        for photos in [1, 3] {
            let found = statistics(&vec![vec![vec![0.6f32, 0.0, 0.0]]; photos]).unwrap();
            assert_eq!((found.centre.as_slice(), found.directions.len()), (&[0.6, 0.0, 0.0][..], 0));
            assert!((found.limit - 0.03 * 0.64).abs() < 1e-6, "{}", found.limit);
        }
        // Equal photos have no directions, however many there are.
        assert!(statistics(&vec![vec![vec![0.6f32, 0.0, 0.0]]; 40]).unwrap().directions.is_empty());
    }

    #[test]
    fn turned_copies_are_known_and_left_out_with_their_photo() {
        let turned: Vec<Copies> = (0..4).map(|i| vec![vec![0.5, 0.01 * i as f32], vec![0.0, 0.5]]).collect();
        let found = statistics(&turned).unwrap();
        // Half way between the two ways that photos lie.
        assert!((found.centre[0] - 0.25).abs() < 1e-6, "{found:?}");
        for copy in turned.concat() {
            assert!(found.distance(&copy).unwrap() < f64::from(found.limit));
        }
    }
}
