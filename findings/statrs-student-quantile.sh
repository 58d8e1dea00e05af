#!/usr/bin/env bash
# statrs 0.19.1: quantiles of Student's t with one degree of freedom are wrong from tails of 2.4e-8 on, with a million anywhere.
#
# Guess: StudentsT::inverse_cdf is as exact for one degree of freedom as for two, far out too. The distribution is Cauchy's then, whose
#   quantile of 1 - tail is 1 / tan(pi tail).
# Seen: with smaller tails it comes out several times too large, then falls and stays at 9.2e7. No error, no NaN. With two or four degrees
#   of freedom it is right to 1e-3 at least, down to tails of 1e-15.
#     tail 1e-6: 3.18e5, exact 3.18e5
#     tail 1e-8: 3.48e7, exact 3.18e7
#     tail 4.5e-9: 5.28e8, exact 7.07e7
#     tail 1e-12: 9.20e7, exact 3.18e11
#   With a million degrees of freedom, where the distribution is nearly normal, it is 0.30 instead of 1.33 at a tail of 0.0912. With
#   tails of 1e-300, a loop of it panics. Its distribution function (sf) is right in all these cases.
# Ours: native/src/publish/student.rs halves an interval by that function instead.
set -euo pipefail
T=$(mktemp -d); trap 'rm -rf "$T"' EXIT; cd "$T"
cargo init -q --vcs none --name finding .
echo 'statrs = { version = "=0.19.1", default-features = false }' >> Cargo.toml
cat > src/main.rs <<'EOF'
use statrs::distribution::{ContinuousCDF, StudentsT};

fn main() {
    let t = StudentsT::new(0.0, 1.0, 1.0).unwrap();
    for wanted in ["1e-6", "1e-8", "4.5e-9", "1e-12"] {
        let p = 1.0 - wanted.parse::<f64>().unwrap();
        // The tail that p, rounded, really has.
        let exact = 1.0 / (std::f64::consts::PI * (1.0 - p)).tan();
        println!("tail {wanted}: {:.2e}, exact {exact:.2e}", t.inverse_cdf(p));
    }
    let t = StudentsT::new(0.0, 1.0, 1e6).unwrap();
    println!("a million degrees, tail 0.0912: {:.3}, exact 1.333, whose tail is {:.4}", t.inverse_cdf(1.0 - 0.0912), t.sf(1.3334027));
}
EOF
seen=$(cargo run -q)
echo "$seen"
[ "$seen" = "tail 1e-6: 3.18e5, exact 3.18e5
tail 1e-8: 3.48e7, exact 3.18e7
tail 4.5e-9: 5.28e8, exact 7.07e7
tail 1e-12: 9.20e7, exact 3.18e11
a million degrees, tail 0.0912: 0.303, exact 1.333, whose tail is 0.0912" ] || { echo "CHANGED: statrs gives other quantiles of Student's t"; exit 1; }
echo "As stated."
