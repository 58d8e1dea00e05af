//! Quantiles of Student's t.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// The number that Student's t with so many degrees of freedom exceeds with this probability, above 0 and below one half.
///
/// statrs has such a function, which is wrong with one degree of freedom or very many (findings/statrs-student-quantile.sh). Its
/// distribution function is right, so the number is found by halving an interval.
///
/// # Panics
/// If there is no degree of freedom.
pub(super) fn exceeded_with(probability: f64, freedom: usize) -> f64 {
    let student = StudentsT::new(0.0, 1.0, freedom as f64).expect("freedom is positive");
    let (mut low, mut high) = (0.0, 1.0);
    while student.sf(high) > probability {
        (low, high) = (high, 2.0 * high);
    }
    for _ in 0..f64::MANTISSA_DIGITS {
        let middle = low + (high - low) / 2.0;
        if student.sf(middle) > probability { low = middle } else { high = middle }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_mpmath() {
        /* In Python, with 50 digits:
        from mpmath import betainc, findroot, log, mp, mpf, nstr
        import scipy.stats
        mp.dps = 50
        for f in [1, 2, 3, 5, 10, 30, 100, 1000, 1000000]:
            def quantile(tail):
                above = lambda t: betainc(mpf(f) / 2, mpf(1) / 2, 0, f / (f + t * t), regularized=True) / 2
                guess = mpf(scipy.stats.t.isf(float(tail), f))
                return findroot(lambda t: log(above(t) / tail), (guess * (1 - mpf(10) ** -6), guess * (1 + mpf(10) ** -6)))
            print(f, [nstr(quantile(mpf(tail)), 10) for tail in ["0.1", "0.0912", "0.05", "0.01", "0.001", "1e-6", "1e-9"]]) */
        let probabilities = [0.1, 0.0912, 0.05, 0.01, 0.001, 1e-6, 1e-9];
        let expected = [
            (1, [3.077683537, 3.394208781, 6.313751515, 31.82051595, 318.308839, 318309.8862, 318309886.2]),
            (2, [1.885618083, 2.008141478, 2.91998558, 6.964556734, 22.32712477, 707.1057205, 22360.67974]),
            (3, [1.637744354, 1.728196623, 2.353363435, 4.540702859, 10.21453185, 103.2994678, 1033.109675]),
            (5, [1.475884049, 1.547576014, 2.015048373, 3.364929999, 5.893429531, 24.77102972, 98.93722465]),
            (10, [1.372183641, 1.432897154, 1.812461123, 2.763769458, 4.143700494, 9.751995491, 20.14469777]),
            (30, [1.310415025, 1.365010757, 1.697260887, 2.457261542, 3.385184867, 5.87111712, 8.445862796]),
            (100, [1.290074761, 1.342728041, 1.660234326, 2.364217366, 3.173739494, 5.048830877, 6.598939821]),
            (1000, [1.282398721, 1.334328436, 1.646378817, 2.330082675, 3.098402164, 4.78160862, 6.053690272]),
            (1000000, [1.281552412, 1.333402671, 1.644855151, 2.326351603, 3.090240456, 4.753452348, 5.997862456]),
        ];
        for (freedom, expected) in expected {
            for (probability, expected) in std::iter::zip(probabilities, expected) {
                let found = exceeded_with(probability, freedom);
                // statrs's distribution function is off by 4e-9 with a million degrees of freedom.
                assert!(
                    (found / expected - 1.0).abs() < 1e-8,
                    "{freedom}, {probability}: {found} instead of {expected}"
                );
            }
        }
    }

    #[test]
    fn the_rarer_the_larger() {
        for freedom in [1, 2, 7, 98, 40_000] {
            let quantiles = (1..300).map(|step| exceeded_with(0.4999 * 0.9_f64.powi(step - 1), freedom));
            let quantiles: Vec<f64> = quantiles.collect();
            assert!(quantiles.is_sorted() && quantiles.iter().all(|q| q.is_finite()), "{freedom}: {quantiles:?}");
        }
    }
}
