//! What a photo looks like as a whole, in one row: the mean of its patches in one of the layers that the head takes.
//!
//! It tells products apart, and a photo of no known product from those of known ones. A defect hardly moves it, unless it covers much of
//! the photo. The heads compute the layer anyway, so it costs two small operations.

use crate::Result;
use crate::ops::Ops;

/// Target layers' outputs, each `[batch, tokens, width]` → `[batch, 1, width]`: the mean of the patches' unit vectors in the layer of the
/// [`place`]. `prefix` tokens come before the first patch.
///
/// # Errors
/// As [`Ops`].
pub(crate) fn descriptor<O: Ops>(ops: &O, layers: &[O::Tensor], prefix: usize) -> Result<O::Tensor> {
    ops.mean_token(&ops.normalize(&layers[place(layers.len())])?, prefix)
}

/// Place among so many target layers, shallow first: a quarter into them, the second of eight. Deeper ones answer defects more, and the first
/// one other products less (`tests/BENCHMARKS.md`).
fn place(layers: usize) -> usize {
    (layers - 1) / 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executors::reference::Reference;
    use crate::tensor::HostTensor;

    #[test]
    fn it_is_the_mean_direction_of_the_patches() {
        // A class token and two patches.
        let layer = |values: [f32; 6]| Reference.upload(&HostTensor::f32([1, 3, 2], values.to_vec()).unwrap()).unwrap();
        let other = layer([9.0, -9.0, 5.0, 0.0, 2.0, 5.0]);
        let layers = [other.clone(), layer([9.0, 9.0, 3.0, 4.0, 0.0, 5.0]), other.clone(), other.clone(), other];
        let found = descriptor(&Reference, &layers, 1).unwrap();
        assert_eq!(found.shape, [1, 1, 2]);
        for (value, expected) in found.values.iter().zip([0.3, 0.9]) {
            assert!((value - expected).abs() < 1e-6, "{:?}", found.values);
        }
        assert_eq!([1, 3, 4, 5, 8, 12].map(place), [0, 0, 0, 1, 1, 2]);
        let error = descriptor(&Reference, &layers, 3).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("tokens of shape [1, 3, 2] have none from number 3 on"), "{error}");
    }
}
