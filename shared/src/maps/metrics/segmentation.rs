//! F1 of pixels and of photos at a threshold that was set without looking at the test photos.

use super::Sample;

/// F1 over all pixels of a class's photos, good ones too, where the map is above `threshold`: SegF1 of MVTec AD 2 (Heckler-Kram et al.,
/// arXiv:2503.21622), with the map's pixels in place of the photo's, as the other pixel metrics here. `None` if a defective photo has
/// no mask, or no pixel is defective.
pub fn seg_f1(samples: &[Sample<'_>], threshold: f32) -> Option<f64> {
    let (mut hits, mut above, mut defective) = (0_usize, 0_usize, 0_usize);
    for Sample { map, mask, anomalous, .. } in samples {
        if *anomalous && mask.is_none() {
            return None;
        }
        above += map.iter().filter(|&&value| value > threshold).count();
        let Some(mask) = mask else { continue };
        defective += mask.iter().filter(|&&defective| defective).count();
        hits += map.iter().zip(*mask).filter(|&(&value, &defective)| defective && value > threshold).count();
    }
    (defective > 0).then(|| 2.0 * hits as f64 / (above + defective) as f64)
}

/// F1 of the verdicts on photos: defective are those with a score above `threshold`. `None` if no photo is anomalous.
pub fn image_f1(scores: &[f32], anomalous: &[bool], threshold: f32) -> Option<f64> {
    let all = anomalous.iter().filter(|&&anomalous| anomalous).count();
    let above = scores.iter().filter(|&&score| score > threshold).count();
    let hits = scores.iter().zip(anomalous).filter(|&(&score, &anomalous)| anomalous && score > threshold).count();
    (all > 0).then(|| 2.0 * hits as f64 / (above + all) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_score_at_the_threshold_is_good() {
        let (scores, anomalous) = ([0.1, 0.6, 0.5, 0.9], [false, false, true, true]);
        // Above 0.5: a false alarm and one of two defective photos. 2·1 / (2 + 2).
        assert_eq!(image_f1(&scores, &anomalous, 0.5), Some(0.5));
        assert_eq!(image_f1(&scores, &anomalous, 0.4), Some(0.8));
        assert_eq!(image_f1(&scores, &anomalous, 1.0), Some(0.0));
        assert_eq!(image_f1(&scores, &[false; 4], 0.5), None);
    }

    const GOOD: [f32; 4] = [0.1, 0.6, 0.2, 0.5];
    const BAD: [f32; 4] = [0.9, 0.7, 0.4, 0.1];
    const MASK: [bool; 4] = [true, false, true, false];

    #[test]
    fn pixels_of_all_photos_count_together() {
        let good = Sample { map: &GOOD, width: 2, mask: None, anomalous: false, score: 0.0 };
        let bad = Sample { map: &BAD, width: 2, mask: Some(&MASK), anomalous: true, score: 0.0 };
        // Above 0.5: one of two defective pixels, one good pixel beside it, one of the good photo. 2·1 / (2·1 + 2 + 1).
        assert_eq!(seg_f1(&[good, bad], 0.5), Some(0.4));
        assert_eq!(seg_f1(&[bad], 0.75), Some(2.0 / 3.0));
        assert_eq!(seg_f1(&[good, bad], 1.0), Some(0.0));
        assert_eq!(seg_f1(&[good], 0.5), None, "no pixel is defective");
        assert_eq!(seg_f1(&[bad, Sample { mask: None, ..bad }], 0.5), None, "a mask is missing");
    }
}
