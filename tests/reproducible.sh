#!/usr/bin/env bash
# Checks that the page's modules do not depend on where they are built: two clones of the last commit, in folders of different depth and
# with a cargo home each, must give equal files.
#
#     tests/reproducible.sh [MODULE...]       # cpu, relaxed, gpu; all if omitted
#
# Takes a few minutes, and downloads the crates once.
set -euo pipefail
repository=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

build() { # FOLDER CARGO_HOME MODULE...
    local folder=$1 home=$2
    shift 2
    git clone --quiet "$repository" "$folder"
    mkdir -p "$home"
    (cd "$folder" && CARGO_HOME=$home CARGO_TARGET_DIR=$folder/target cargo page --out "$folder/page" "$@" >&2)
    (cd "$folder/page" && sha256sum -- *)
}

first=$(build "$work/a" "$work/home-a" "$@")
second=$(build "$work/another/and/deeper/b" "$work/another/home-b" "$@")
echo "$first"
if [ "$first" != "$second" ]; then
    diff <(echo "$first") <(echo "$second") || true
    echo "reproducible.sh: the modules depend on where they are built" >&2
    exit 1
fi
# Equal by chance is not enough: no path of the machine stands in them.
if grep -l -a -F -e "$work" -e "$HOME/" "$work/a/page"/*; then
    echo "reproducible.sh: these files hold paths of this machine" >&2
    exit 1
fi
echo "equal from two folders and two cargo homes"
