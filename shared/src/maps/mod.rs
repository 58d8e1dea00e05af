//! Distance maps → anomaly map, score, regions, heatmap and metrics.

pub mod defects;
pub mod heatmap;
mod interpolate;
pub mod metrics;
pub mod outline;
pub mod scope;
pub mod score;
