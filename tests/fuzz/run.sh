#!/usr/bin/env bash
# Fuzzes every reader of foreign files, one after the other, each for so many seconds: tests/fuzz/run.sh SECONDS [READER...]
# Needs cargo-fuzz (cargo install cargo-fuzz) and a C++ compiler. Ends with 1 at the first panic, at a file that takes more than 1 GiB of
# memory, and at one that takes more than ten seconds, which are about one of the program's: this is compiled fast, and counts what it
# reaches. The last lines say how to repeat it. What reached new code is kept in corpus/, and taken up by the next run.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:?tests/fuzz/run.sh SECONDS [READER...]}
shift
# The program's own versions of all crates.
[ -e Cargo.lock ] || cp ../../Cargo.lock .
# Without a sanitizer: it looks for faults of unsafe code, which our readers do not have, needs nightly Rust, and slows down a build that takes
# long already. Checksums are checked as in the program, which is what the other switch keeps.
switches=(--fuzz-dir . --sanitizer none --no-cfg-fuzzing)
[ $# -gt 0 ] || mapfile -t readers < <(cargo fuzz list --fuzz-dir .)
[ $# -eq 0 ] || readers=("$@")
cargo fuzz build "${switches[@]}"
for reader in "${readers[@]}"; do
    echo "fuzz: $reader"
    # 128 bytes are 64 decisions.
    cargo fuzz run "${switches[@]}" "$reader" -- -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -malloc_limit_mb=1024 \
        -max_len=128 -print_final_stats=1
done
