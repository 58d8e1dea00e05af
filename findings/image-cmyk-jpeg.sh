#!/usr/bin/env bash
# image 0.25.10: original_color_type says RGB of a CMYK JPEG, and CMYK of a CMYK TIFF.
#
# Guess: ImageDecoder::original_color_type says how the file stores its colours, in every format: inks are told before they are
#   converted without a colour profile.
# Seen: the JPEG decoder says what it converts to. zune-jpeg, which it decodes with, does know the inks:
#     inks.jpg: Rgb8
#     inks.tif: Cmyk8
#     inks.jpg by zune-jpeg 0.5.15: CMYK
# Ours: the module that checks the colours of a data set asks zune-jpeg itself.
set -euo pipefail
T=$(mktemp -d); trap 'rm -rf "$T"' EXIT; cd "$T"
python3 -m pip install -qq --disable-pip-version-check --target python pillow==11.3.0
PYTHONPATH=python python3 -c '
from PIL import Image
inks = Image.new("CMYK", (16, 16), (200, 30, 30, 0))
inks.save("inks.jpg")
inks.save("inks.tif")'
cargo init -q --vcs none --name finding .
cat >> Cargo.toml <<'EOF'
image = { version = "=0.25.10", default-features = false, features = ["jpeg", "tiff"] }
zune-jpeg = "=0.5.15"
EOF
cat > src/main.rs <<'EOF'
use image::{ImageDecoder, ImageReader};
use zune_jpeg::{JpegDecoder, zune_core::bytestream::ZCursor};

fn main() {
    for file in ["inks.jpg", "inks.tif"] {
        println!("{file}: {:?}", ImageReader::open(file).unwrap().into_decoder().unwrap().original_color_type());
    }
    let mut decoder = JpegDecoder::new(ZCursor::new(std::fs::read("inks.jpg").unwrap()));
    decoder.decode_headers().unwrap();
    println!("inks.jpg by zune-jpeg 0.5.15: {:?}", decoder.input_colorspace().unwrap());
}
EOF
seen=$(cargo run -q)
echo "$seen"
[ "$seen" = "inks.jpg: Rgb8
inks.tif: Cmyk8
inks.jpg by zune-jpeg 0.5.15: CMYK" ] || { echo "CHANGED: image says something else of the colours of a CMYK JPEG or TIFF"; exit 1; }
echo "As stated."
