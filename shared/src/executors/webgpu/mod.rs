//! WGSL kernels on wgpu: the browser's GPU, and any GPU natively.
