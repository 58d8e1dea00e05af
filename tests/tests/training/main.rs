//! Training beside what the golden folder holds of it: its photos, its gradients, its precision and what it made.

mod embedded; // the embedded model on its test photos, as it is and in every weight format
mod freezing; // gradients reach every trained tensor and no frozen one, in every kind of decoder
mod generated; // photos with defects that the program draws: the same everywhere, with true masks, not too easy
mod mixed_precision; // a run in bf16 against the same in f32
mod widest; // the widest listed encoder, from training to int8
