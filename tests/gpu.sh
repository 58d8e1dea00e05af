#!/usr/bin/env bash
# What only a machine with an NVIDIA GPU can show, each thing with its figure: "CUDA" in BENCHMARKS.md says what it is held
# against. The programs may be built elsewhere: what runs them needs the driver, cuBLAS, cuRAND and this checkout, and
# neither toolkit nor cargo.
#
#     tests/gpu.sh build [FOLDER]   builds the programs; CUDA_HOME is as for native/cuda/build.sh
#     tests/gpu.sh run [FOLDER]     runs them on DINOMALY_DEVICE (cuda without), all or some of:
#     PARTS="golden speed train resume evaluate precision" SHAPE=vit-b14 PHOTOS=3629 ITERATIONS=10000 WORK=DIR; OPTIONS are
#     further ones of `dinomaly train`
set -euo pipefail
# A point in numbers.
export LC_ALL=C
cd "$(dirname "$0")/.."
programs=$(realpath -m "${2:-target/gpu}")

build() {
    mkdir -p "$programs"
    local cuda=(native/cuda/build.sh -- cargo)
    native/cuda/build.sh
    "${cuda[@]}" build --release -p dinomaly-tests --features cuda --bin random_model
    local target=${CARGO_TARGET_DIR:-target/cuda}/$(rustc -vV | sed -n 's/^host: //p')/release
    cp "$target/dinomaly" "$target/random_model" "$programs"
    keep() { cp "$(sed -n 's/.*Executable .*(\(.*\))$/\1/p' | tail -1)" "$programs/$1"; }
    "${cuda[@]}" test --release -p dinomaly-tests --features cuda --test golden --no-run 2>&1 | keep golden
    "${cuda[@]}" bench -p dinomaly-tests --features cuda --bench train --no-run 2>&1 | keep speed
    strip "$programs"/*
    ls -lh "$programs"
}

title() { printf '\n== %s\n' "$*"; }

# Prints what a command says, and how long it took.
timed() {
    local begun=${EPOCHREALTIME/./}
    "$@"
    echo "$(((${EPOCHREALTIME/./} - begun) / 1000)) ms: $*"
}

# What all parts have.
settings() {
    device=${DINOMALY_DEVICE:-cuda}
    export DINOMALY_DEVICE=$device DINOMALY_GOLDEN=${DINOMALY_GOLDEN:-$PWD/tests/fixtures/golden}
    work=${WORK:-$(mktemp -d)} shape=${SHAPE:-vit-b14} photos=${PHOTOS:-3629} iterations=${ITERATIONS:-10000}
    dinomaly=$programs/dinomaly
    # shellcheck disable=SC2206
    command=(train "$work/data" --backbone "$work/backbone.safetensors" --device "$device" ${OPTIONS:-})
}

run() {
    settings
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || true
    local failed=()
    export WORK=$work
    for part in ${PARTS:-golden speed train resume evaluate precision}; do
        # In a shell of its own, which ends at the first command that fails; the other parts go on.
        "$BASH" tests/gpu.sh part "$programs" "$part" || failed+=("$part")
    done
    if ((${#failed[@]})); then
        echo "failed: ${failed[*]}" >&2
        exit 1
    fi
}

# One of the parts alone.
part() {
    settings
    "$3"
}

# Outputs of the official implementation, in f32.
golden() {
    title golden
    (cd tests && timed "$programs/golden" training:: --nocapture | grep -vE '^ |^$')
}

# Steps of each size, photos a second and the share of the device's own products.
speed() {
    title speed
    for size in small base large; do "$programs/speed" --device "$device" --shape $size; done
}

# A backbone with random weights and drawn photos: speed does not depend on their values.
material() {
    [[ -e $work/backbone.safetensors ]] || "$programs/random_model" --shape "$shape" --backbone --out "$work/backbone.safetensors"
    [[ -d $work/data ]] ||
        timed "$dinomaly" generate "$work/data" --train $(((photos + 3) / 4)) --good 10 --defective 5 --size 512 >/dev/null
}

trains() { "$dinomaly" "${command[@]}" --out "$work/$1" "${@:2}"; }

# The full schedule on as many photos as MVTec-AD has.
train() {
    material
    title "train: $shape, $photos photos, $iterations iterations"
    timed trains full --iterations "$iterations"
}

# Killed in the middle, and ended in the same bits.
resume() {
    material
    title resume
    local options=(--classes gear --iterations 400 --checkpoint-every 7)
    rm -rf "$work"/{un,}broken{,.training}
    trains unbroken "${options[@]}" >/dev/null
    # Itself in the background, no shell around it.
    "$dinomaly" "${command[@]}" --out "$work/broken" "${options[@]}" >"$work/broken.log" 2>&1 &
    local child=$!
    until [[ -e $work/broken.training/checkpoint.safetensors ]]; do
        kill -0 $child || { cat "$work/broken.log"; return 1; }
        sleep 0.05
    done
    kill -9 $child
    wait $child || true
    trains broken "${options[@]}" | grep resuming
    (cd "$work" && for file in unbroken/*.safetensors; do cmp "$file" "broken/${file#*/}"; done)
    echo "the same bits as unbroken"
}

# Photos a second, and the model's self-test on the device.
evaluate() {
    title evaluate
    [[ -d $work/unbroken ]] || resume
    timed "$dinomaly" evaluate "$work/unbroken" "$work/data" --device "$device"
    "$dinomaly" bench "$work/unbroken" --device "$device"
}

# Metrics after training in bf16 and in f32, with the embedded encoder: three seeds.
precision() {
    material
    title precision
    for seed in 1 2 3; do
        for precision in bf16 f32; do
            local model=$work/$precision-$seed
            "$dinomaly" train "$work/data" --backbone native/assets/small-encoder.safetensors --device "$device" --out "$model" \
                --resize 224 --crop 224 --iterations $((iterations / 10)) --seed $seed --precision $precision >/dev/null
            echo "seed $seed, $precision:"
            "$dinomaly" evaluate "$model" "$work/data" --device "$device" | tail -1
        done
    done
}

case ${1:-} in
    build | run | part) "$1" "$@" ;;
    *) sed -n '2,/^set/p' "$0" | grep '^#' | cut -c3- && exit 2 ;;
esac
