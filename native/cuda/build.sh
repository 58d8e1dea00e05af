#!/usr/bin/env bash
# Builds `dinomaly` for NVIDIA GPUs with an installed CUDA toolkit: nvcc on PATH, or CUDA_HOME set. Needs no GPU and no
# driver. Further arguments go to cargo; `build.sh -- COMMAND …` runs a command of its own as the build would be run, such as
# `cargo bench -p dinomaly-tests --features cuda --bench train -- --device cuda`.
# What runs the program needs a driver that is no older than the toolkit.
set -euo pipefail
cd "$(dirname "$0")/../.."

if [[ -n ${CUDA_HOME:-} ]]; then PATH=$CUDA_HOME/bin:$PATH; fi
if ! nvcc=$(command -v nvcc); then
    echo "nvcc was not found: set CUDA_HOME to the folder of the CUDA toolkit, or use native/cuda/build-without-toolkit.sh" >&2
    exit 1
fi
export PATH CUDA_HOME=${CUDA_HOME:-$(cd "$(dirname "$(readlink -f "$nvcc")")/.." && pwd)}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target/cuda}
export CUDAFORGE_THREADS=${CUDAFORGE_THREADS:-$(nproc)}
# The driver compiles PTX of compute capability 8.0 for every GPU from A100 on; H100 and H200 are 9.0.
export CUDA_COMPUTE_CAP=${CUDA_COMPUTE_CAP:-80}

# One program for machines with and without a driver. candle has cudarc link NVIDIA's libraries; as a cfg beside that feature,
# loading takes precedence, and they are opened when the program needs them. A build that names its target keeps the cfg
# from build scripts, one of which refuses it. CUDA's runtime, which one archive of candle-kernels needs, is linked in.
CARGO_BUILD_TARGET=$(rustc -vV | sed -n 's/^host: //p')
link=$CARGO_TARGET_DIR/link
mkdir -p "$link"
echo "INPUT($(find -L "$CUDA_HOME" -name libcudart_static.a -print -quit))" >"$link/libcudart.so"
# NCCL is no part of the toolkit; the linker is told of it, and takes nothing from it.
cc -shared -o "$link/libnccl.so" -x c /dev/null
export CARGO_BUILD_TARGET RUSTFLAGS="--cfg feature=\"dynamic-loading\" -L native=$link ${RUSTFLAGS:-}"
if [[ ${1:-} == -- ]]; then
    shift
    exec "$@"
fi
cargo build --release --package dinomaly --features cuda "$@"

program=$CARGO_TARGET_DIR/$CARGO_BUILD_TARGET/release/dinomaly
if readelf --dynamic "$program" | grep -E 'NEEDED.*\[lib(cuda|cublas|curand|nccl|nvrtc)'; then
    echo "$program is linked to the libraries above and does not start without them" >&2
    exit 1
fi
# What it does where no GPU is: refuse one in a sentence, or go on without. CUDA_VISIBLE_DEVICES hides those of this machine.
export CUDA_VISIBLE_DEVICES=
refusal=$("$program" bench native/assets/demo-model --device cuda 2>&1) && { echo "--device cuda was not refused" >&2; exit 1; }
[[ $refusal == "dinomaly: device cuda:0 cannot be opened: "*"or use --device cpu" ]] || { echo "unclear: $refusal" >&2; exit 1; }
fallback=$("$program" bench native/assets/demo-model --device auto 2>&1)
[[ $fallback == "dinomaly: computing on the processor, because no NVIDIA GPU can be used: "*"ms per photo"* ]] ||
    { echo "unclear: $fallback" >&2; exit 1; }
echo "$refusal"
echo "built $program; without a GPU it refuses --device cuda and computes on the processor with auto"
