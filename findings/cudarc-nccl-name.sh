#!/usr/bin/env bash
# cudarc 0.19.10: does not find libnccl.so.2, the only name that NVIDIA's wheel has, and panics from a function that returns a Result.
#
# Guess: with the feature dynamic-loading and NCCL's folder on LD_LIBRARY_PATH, NCCL is found. Where it is not, a Result says so.
# Seen: libnccl is looked for without a number and with those of CUDA's libraries (9 to 13, 1), never with NCCL's own 2. What then comes
#   is a panic. A link called libnccl.so helps. All of it shows without a GPU:
#     the wheel of NCCL 2.32.3 has: libnccl.so.2
#     the loader finds libnccl.so.2: yes
#     cudarc: panic: Unable to dynamically load the "nccl" shared library
#     cudarc, with a link: Ok(23203)
# Ours: the device module catches the panic and says which link to make; the replicas' NCCL module calls through it.
set -euo pipefail
T=$(mktemp -d); trap 'rm -rf "$T"' EXIT; cd "$T"
python3 -m pip install -qq --disable-pip-version-check --no-deps --target python nvidia-nccl-cu13==2.32.3
library=$(find "$T/python" -name 'libnccl.so*')
cargo init -q --vcs none --name finding .
cat >> Cargo.toml <<'EOF'
cudarc = { version = "=0.19.10", default-features = false, features = ["std", "nccl", "dynamic-loading", "cuda-13000"] }
EOF
cat > src/main.rs <<'EOF'
fn main() {
    std::panic::set_hook(Box::new(|_| {}));
    match std::panic::catch_unwind(cudarc::nccl::result::get_nccl_version) {
        Ok(answer) => println!("{answer:?}"),
        Err(panic) => println!("panic: {}", panic.downcast_ref::<String>().unwrap().split(" - ").next().unwrap()),
    }
}
EOF
cargo build -q
export LD_LIBRARY_PATH=${library%/*}
seen="the wheel of NCCL 2.32.3 has: ${library##*/}
the loader finds libnccl.so.2: $(python3 -c 'import ctypes; ctypes.CDLL("libnccl.so.2"); print("yes")')
cudarc: $(cargo run -q)
cudarc, with a link: $(ln -s libnccl.so.2 "$LD_LIBRARY_PATH/libnccl.so"; cargo run -q)"
echo "$seen"
[ "$seen" = "the wheel of NCCL 2.32.3 has: libnccl.so.2
the loader finds libnccl.so.2: yes
cudarc: panic: Unable to dynamically load the \"nccl\" shared library
cudarc, with a link: Ok(23203)" ] || { echo "CHANGED: cudarc looks for NCCL otherwise, or there is a libnccl.so elsewhere on this machine"; exit 1; }
echo "As stated."
