#!/usr/bin/env bash
# image 0.25.10: the format of a BigTIFF file is not recognised, although its decoder reads the file.
#
# Guess: what the TIFF decoder reads, with_guessed_format recognises: BigTIFF differs from TIFF in the third byte (43 for 42), and line
#   scan cameras and microscopes write it.
# Seen:
#     guessed: None
#     read as TIFF: 6 x 4
# Ours: the module that decodes photos knows BigTIFF's first bytes.
set -euo pipefail
T=$(mktemp -d); trap 'rm -rf "$T"' EXIT; cd "$T"
python3 -m pip install -qq --disable-pip-version-check --target python pillow==11.3.0
PYTHONPATH=python python3 -c '
from PIL import Image
Image.new("RGB", (6, 4), (10, 20, 30)).save("large.tif", big_tiff=True)'
cargo init -q --vcs none --name finding .
echo 'image = { version = "=0.25.10", default-features = false, features = ["tiff"] }' >> Cargo.toml
cat > src/main.rs <<'EOF'
use image::{ImageFormat, ImageReader};
use std::io::Cursor;

fn main() {
    let bytes = std::fs::read("large.tif").unwrap();
    let mut reader = ImageReader::new(Cursor::new(&bytes)).with_guessed_format().unwrap();
    println!("guessed: {:?}", reader.format());
    reader.set_format(ImageFormat::Tiff);
    let photo = reader.decode().unwrap();
    println!("read as TIFF: {} x {}", photo.width(), photo.height());
}
EOF
seen=$(cargo run -q)
echo "$seen"
[ "$seen" = "guessed: None
read as TIFF: 6 x 4" ] || { echo "CHANGED: image recognises BigTIFF"; exit 1; }
echo "As stated."
