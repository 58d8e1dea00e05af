//! Distance maps → anomaly map, score, heatmap and metrics.

pub mod heatmap;
mod interpolate;
pub mod metrics;
pub mod score;
