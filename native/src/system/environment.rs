//! What other libraries read from the environment, where the user has not set it.

/// Variable and value. The reasons:
///
/// - candle's own pool for element-wise operations is turned off: its threads wait by spinning and take from the products more time
///   than they save (distilling on two cores: 12 pictures/s with it, 26 without).
/// - NCCL adds in a ring. Left to itself it may have the switches between GPUs add (NVLS), in an order that differs from call to call
///   (NVIDIA/nccl#1497): a resumed run would not end in the same bits.
/// - NCCL touches its own buffers on other GPUs, not tensors, as some versions do within a process: tensors lie in the pools of
///   `cuMemAllocAsync`, to which other GPUs have no access.
const DEFAULTS: [(&str, &str); 3] =
    [("CANDLE_NUM_THREADS", "1"), ("NCCL_ALGO", "Ring"), ("NCCL_P2P_DIRECT_DISABLE", "1")];

/// Sets what is not set. For the beginning of a program: there must be no other threads.
pub fn set_defaults() {
    for (variable, value) in missing(|variable| std::env::var_os(variable).is_some()) {
        // SAFETY: main calls it before other threads exist.
        #[allow(unsafe_code)]
        unsafe {
            std::env::set_var(variable, value);
        }
    }
}

fn missing(is_set: impl Fn(&str) -> bool) -> impl Iterator<Item = (&'static str, &'static str)> {
    DEFAULTS.into_iter().filter(move |(variable, _)| !is_set(variable))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_user_has_set_stays() {
        let missing: Vec<_> = missing(|variable| variable == "NCCL_ALGO").collect();
        assert_eq!(missing, [("CANDLE_NUM_THREADS", "1"), ("NCCL_P2P_DIRECT_DISABLE", "1")]);
    }
}
