//! Dropout: the same values are dropped as on the processor.

use candle_core::DType;
use dinomaly::training::noise::{Dropout, with_mask};
use dinomaly_core::executors::candle::kernels::dropout;
use dinomaly_core::ops::NoiseAt;

use crate::machine::{Machine, is_there};
use crate::{ELEMENTS, random};

#[test]
fn the_same_values_are_dropped() {
    if !is_there() {
        return;
    }
    for (count, (element, dtype)) in [1, 15, 16, 1000, 5000].into_iter().flat_map(|n| ELEMENTS.map(|e| (n, e))) {
        let x = random(1, &[count]).to_dtype(dtype).unwrap();
        // The last: behind values of other replicas, from within a block of words on, whose number needs more than 32 bits.
        for (seed, iteration, first) in
            [(1, 0, 0), (u64::MAX, 123_456, 0), (1, 1, 32), (1, 1, 9), (1, 1, (1 << 37) + 15)]
        {
            let noise = Dropout::new(0.3, seed, iteration);
            let mask = dropout::Mask { first, ..noise.mask(NoiseAt::Hidden) };
            let expected = with_mask(&x, mask).unwrap();
            let mut machine = Machine::default();
            let (from, out) = (machine.tensor(&x), machine.room(dtype, count));
            machine.launch([dropout::dropout(element, [from, out], count, &mask)]);
            machine.run();
            let values = |t: &candle_core::Tensor| t.to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(
                values(&machine.read(out, dtype, &[count])),
                values(&expected),
                "{count} of {element:?} from {first}"
            );
        }
    }
}
