//! Benchmarks in GFLOP/s: wall time of work whose floating-point operations are known.

use std::time::{Duration, Instant};

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{Criterion, Throughput};

/// Wall time. `Throughput::Elements` are floating-point operations.
pub struct Flops;

/// Settings for a shared machine: few samples of slow work.
pub fn criterion() -> Criterion<Flops> {
    Criterion::default()
        .with_measurement(Flops)
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args()
}

impl Measurement for Flops {
    type Intermediate = Instant;
    type Value = Duration;

    fn start(&self) -> Instant {
        WallTime.start()
    }

    fn end(&self, begun: Instant) -> Duration {
        WallTime.end(begun)
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        WallTime.add(a, b)
    }

    fn zero(&self) -> Duration {
        WallTime.zero()
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        self
    }
}

impl ValueFormatter for Flops {
    fn scale_values(&self, typical: f64, values: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_values(typical, values)
    }

    fn scale_throughputs(&self, typical: f64, throughput: &Throughput, values: &mut [f64]) -> &'static str {
        let Throughput::Elements(operations) = *throughput else {
            return WallTime.formatter().scale_throughputs(typical, throughput, values);
        };
        // Operations a nanosecond are 10⁹ a second.
        values.iter_mut().for_each(|nanoseconds| *nanoseconds = operations as f64 / *nanoseconds);
        "GFLOP/s"
    }

    fn scale_for_machines(&self, values: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_for_machines(values)
    }
}
