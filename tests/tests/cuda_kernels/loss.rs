//! The hard-mining loss.

use candle_core::{DType, Tensor};
use dinomaly::training::mining::{distance, photo_losses};
use dinomaly_core::executors::candle::kernels::mining::{self, Points};

use crate::machine::{Machine, is_there};
use crate::{compare, random};

#[test]
fn hard_mining_loss_and_its_gradient() {
    if !is_there() {
        return;
    }
    // More points than the block that searches has threads; the hardest, half, all.
    for (photos, first, patches, channels, hard) in
        [(1, 0, 1, 3, 1), (2, 1, 13, 5, 1), (3, 5, 7, 33, 10), (3, 0, 500, 40, 150), (2, 2, 9, 4, 18)]
    {
        let points = Points { photos, first, patches, channels };
        let shape = [photos, first + patches, channels];
        let (encoded, decoded, factor) = (random(1, &shape), random(2, &shape), 0.1);
        let weights = random(3, &[photos]);
        let (losses, expected) = photo_losses(&encoded, &decoded, first, &weights, hard, factor, None).unwrap();

        let mut machine = Machine::default();
        let [encoded, decoded, grad] = [&encoded, &decoded, &weights].map(|t| machine.tensor(t));
        let [stats, out, of_decoded, kth] =
            [points.stats(), photos, points.tokens() * channels, 1].map(|count| machine.room(DType::F32, count));
        machine.launch(mining::stats([encoded, decoded, stats], points, hard));
        machine.launch([
            mining::losses([stats, out], points),
            mining::grad([encoded, decoded, stats, grad, of_decoded], points, factor),
            mining::kth([stats, kth], 0, points.count(), hard),
        ]);
        machine.run();
        let name = |what: &str| format!("{what} of {points:?}, {hard} hard");
        compare(&name("losses"), &machine.read(out, DType::F32, &[photos]), &losses, 3e-6);
        compare(&name("gradient"), &machine.read(of_decoded, DType::F32, &shape), &expected, 3e-6);
        let stats = machine.read(stats, DType::F32, &[points.stats()]).to_vec1::<f32>().unwrap();
        let mut distances: Vec<f32> = stats[..3 * points.count()].chunks(3).map(distance).collect();
        distances.sort_by(|a, b| b.total_cmp(a));
        assert_eq!(stats[stats.len() - 1], distances[hard - 1], "{}", name("threshold"));
        // Of the sums alone, as replicas gather them.
        assert_eq!(machine.read(kth, DType::F32, &[1]).to_vec1::<f32>().unwrap(), [distances[hard - 1]]);
    }
}

#[test]
fn the_threshold_is_found_among_equal_and_negative_distances() {
    if !is_there() {
        return;
    }
    // Every other patch is as the encoder has it, and rounding puts some of their distances below zero; then the same again.
    let (encoded, other) = (random(1, &[1, 32, 3]), random(2, &[1, 32, 3]));
    let patch = |i: usize| if i.is_multiple_of(2) { &encoded } else { &other }.narrow(1, i, 1).unwrap();
    let decoded = Tensor::cat(&(0..32).map(patch).collect::<Vec<_>>(), 1).unwrap();
    let twice = |x: &Tensor| Tensor::cat(&[x, x], 0).unwrap();
    let (encoded, decoded) = (twice(&encoded), twice(&decoded));
    let points = Points { photos: 2, first: 0, patches: 32, channels: 3 };
    for hard in [1, 31, 32, 33, 50, 60, 64] {
        let mut machine = Machine::default();
        let [a, b] = [&encoded, &decoded].map(|t| machine.tensor(t));
        let stats = machine.room(DType::F32, points.stats());
        machine.launch(mining::stats([a, b, stats], points, hard));
        machine.run();
        let stats = machine.read(stats, DType::F32, &[points.stats()]).to_vec1::<f32>().unwrap();
        let mut distances: Vec<f32> = stats[..192].chunks(3).map(distance).collect();
        distances.sort_by(|a, b| b.total_cmp(a));
        assert!(distances[63] < 0.0 && distances[0] > 0.1, "{distances:?}");
        assert_eq!(stats[stats.len() - 1], distances[hard - 1], "{hard}");
    }
}

#[test]
fn the_threshold_is_found_among_more_points_than_a_block_keeps() {
    if !is_there() {
        return;
    }
    let points = 17_000;
    let sums = (random(1, &[3 * points]).as_tensor() + 3.0).unwrap();
    let mut distances: Vec<f32> = sums.to_vec1::<f32>().unwrap().chunks(3).map(distance).collect();
    distances.sort_by(|a, b| b.total_cmp(a));
    for hard in [1, 16_500] {
        let mut machine = Machine::default();
        let (sums, out) = (machine.tensor(&sums), machine.room(DType::F32, 1));
        machine.launch([mining::kth([sums, out], 0, points, hard)]);
        machine.run();
        assert_eq!(machine.read(out, DType::F32, &[1]).to_vec1::<f32>().unwrap(), [distances[hard - 1]], "{hard}");
    }
}
