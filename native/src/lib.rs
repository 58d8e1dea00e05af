//! Train, evaluate, quantize and publish Dinomaly anomaly detectors.
//!
//! Good photos → model, in the order of the files: [`dataset`] lists photos, [`features`] runs the frozen encoder once,
//! [`head`] is what is trained, [`train`] steps it with [`loss`], [`noise`], [`schedule`] and [`optimizer`],
//! [`checkpoint`] survives crashes.

pub mod checkpoint;
pub mod dataset;
pub mod features;
pub mod head;
pub mod loss;
pub mod noise;
pub mod optimizer;
pub mod schedule;
pub mod train;
