//! Defaults for environment variables that other libraries read.

/// Variables and their values, for these reasons:
///
/// - candle's own thread pool for element-wise operations is off. Its threads wait by spinning, which costs the matrix products more
///   time than it saves (distilling on two cores: 12 pictures/s with the pool, 26 without it).
/// - NCCL sums in a ring. By default it may let the switches between GPUs sum (NVLS), in an order that differs from call to call
///   (NVIDIA/nccl#1497): a resumed run would not end in the same bits.
/// - NCCL uses its own buffers for other GPUs. Some versions access tensors directly within a process, but tensors lie in the pools
///   of `cuMemAllocAsync`, to which other GPUs have no access.
const DEFAULTS: [(&str, &str); 3] =
    [("CANDLE_NUM_THREADS", "1"), ("NCCL_ALGO", "Ring"), ("NCCL_P2P_DIRECT_DISABLE", "1")];

/// Sets the variables that are not set. To be called first in a program, before other threads exist.
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
