#!/usr/bin/env bash
# statrs 0.19.1: quantiles of Student's t with one degree of freedom are wrong from tails of 2.4e-8 on.
#
# Guess: StudentsT::inverse_cdf is as exact for one degree of freedom as for two, far out too. The distribution is Cauchy's then, whose
#   quantile of 1 - tail is 1 / tan(pi tail).
# Seen: with smaller tails it comes out several times too large, then falls and stays at 9.2e7. No error, no NaN. With two or four degrees
#   of freedom it is right to 1e-3 at least, down to tails of 1e-15.
#     tail 1e-6: 3.18e5, exact 3.18e5
#     tail 1e-8: 3.48e7, exact 3.18e7
#     tail 4.5e-9: 5.28e8, exact 7.07e7
#     tail 1e-12: 9.20e7, exact 3.18e11
# Ours: native/src/publish/thresholds.rs asks for such a quantile where a class has two photos to set a threshold with.
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
}
EOF
seen=$(cargo run -q)
echo "$seen"
[ "$seen" = "tail 1e-6: 3.18e5, exact 3.18e5
tail 1e-8: 3.48e7, exact 3.18e7
tail 4.5e-9: 5.28e8, exact 7.07e7
tail 1e-12: 9.20e7, exact 3.18e11" ] || { echo "CHANGED: statrs gives other quantiles of Student's t with one degree of freedom"; exit 1; }
echo "As stated."
