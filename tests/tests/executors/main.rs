//! The executors against each other and against plain loops. The GPU is Vulkan's software driver where there is no other.

mod bank; // operations of heads that compare tokens with stored rows: odd sizes, what is no number, shapes that do not fit
mod compare; // one operation on every executor, against the reference
mod descriptors; // what a photo looks like as a whole: every executor, int8, tiles, the maker of models without training
mod gpu_memory; // a photo from pixels to maps as one submission, its activations, the largest buffers of ViT-S, B and L
mod linear; // kernels of linear layers on the GPU: each way of storing operands in each tile
mod memory_heads; // detectors without training, from pixels to maps
mod ops; // every operation on every executor, on odd sizes
mod precision; // precision that a model runs in: the fastest that its self-test accepts
mod webgpu; // what the GPU executor promises beside its results: submissions, reused buffers, faults as errors
