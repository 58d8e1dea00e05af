//! Distance maps → anomaly map, score, heatmap and metrics.

pub mod heatmap;
pub mod metrics;
pub mod score;
