#!/usr/bin/env bash
# Builds `dinomaly` for NVIDIA GPUs on a machine without the CUDA toolkit, with NVIDIA's compiler and headers from PyPI (270 MB
# in target/). Needs python3 with pip, and gcc. Further arguments go to cargo.
set -euo pipefail
cd "$(dirname "$0")/../.."

# Driver 580, the first of CUDA 13, refuses the code of newer compilers.
version=13.0.2
folder=$PWD/target/cuda-$version
toolkit=$folder/nvidia/cu13
if [[ ! -d $folder ]]; then
    rm -rf "$folder.part"
    python3 -m pip install --quiet --no-compile --target "$folder.part" "cuda-toolkit[nvcc,crt,nvvm,cudart,cccl]==$version"
    mv "$folder.part" "$folder"
fi
# The wheels have lib where nvcc looks for lib64, and lack the libraries that the linker is told of and nothing is taken from.
ln -sfn lib "$toolkit/lib64"
mkdir -p "$toolkit/lib/stubs"
for name in cuda cublas cublasLt curand nvrtc; do
    gcc -shared -o "$toolkit/lib/stubs/lib$name.so" -x c /dev/null
done
CUDA_HOME=$toolkit exec native/cuda/build.sh "$@"
