#!/usr/bin/env bash
# ctrlc 3.5.2 (feature termination): a program started by nohup hears the hang-up all the same.
#
# Guess: a signal that the program was started to ignore stays ignored, as Python's and Go's runtimes leave it, so that `nohup` keeps long
#   work alive when its terminal is gone.
# Seen: set_handler installs its handler for SIGHUP whether it is ignored or not:
#     nohup: heard
# Ours: the handler's module looks before, and sets SIGHUP back to ignored after.
set -euo pipefail
T=$(mktemp -d); trap 'rm -rf "$T"' EXIT; cd "$T"
cargo init -q --vcs none --name finding .
echo 'ctrlc = { version = "=3.5.2", features = ["termination"] }' >> Cargo.toml
cat > src/main.rs <<'EOF'
use std::time::Duration;

fn main() {
    ctrlc::set_handler(|| {
        println!("heard");
        std::process::exit(0);
    })
    .unwrap();
    std::fs::write("ready", "").unwrap();
    std::thread::sleep(Duration::from_secs(5));
    println!("went on");
}
EOF
cargo build -q
nohup target/debug/finding > heard.txt 2> /dev/null &
until [ -e ready ]; do sleep 0.1; done
kill -HUP $!
wait $!
seen="nohup: $(cat heard.txt)"
echo "$seen"
[ "$seen" = "nohup: heard" ] || { echo "CHANGED: ctrlc leaves an ignored SIGHUP ignored"; exit 1; }
echo "As stated."
