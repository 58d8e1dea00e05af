//! Outputs of the official implementation, which the golden folder holds, against ours.
//!
//! `DINOMALY_GOLDEN` names another folder of the same form, and `DINOMALY_DEVICE` the device of training.

mod case; // no test: the golden models' cases, and how closely they are met
mod import; // checkpoints of the official implementation and of anomalib, made of golden weights
mod maps; // distance maps → anomaly map → score
mod metrics; // the seven metrics and the per-region-overlap curve
mod models; // forward pass, step by step, on every executor
mod ops; // GELU, ELU + 1, layer norm and attention, each alone
mod positions; // position tables on other grids
mod preprocess; // decoding, resize, crop, normalisation and masks, to the byte
mod rounded; // models with weights in every published format against themselves
mod training; // loss, gradients, optimiser, schedules, dropout and trajectories
