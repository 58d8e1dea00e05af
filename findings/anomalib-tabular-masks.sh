#!/usr/bin/env bash
# anomalib 2.7.0: its tabular data with a root and masks cannot be read with pandas 3, which its requirements allow.
#
# Guess: the table of its own documentation, with columns image_path, label_index, split and mask_path, is read if the files lie below root.
# Seen: paths are put into a column of texts, which pandas 3 refuses:
#     TypeError: Invalid value for dtype 'str'. Value should be a string or missing value (or array of those).
#   Without masks, or with columns of objects, it is read.
# Ours: tests/peers/datasets.py hands it columns of objects.
# Needs some 6 GB for PyTorch and what it brings. PYTHON names an interpreter that has anomalib 2.7.0 already.
set -euo pipefail
T=$(mktemp -d); trap 'rm -rf "$T"' EXIT; cd "$T"
python=${PYTHON:-}
if [ -z "$python" ]; then
  python3 -m venv python
  python/bin/pip install -qq --disable-pip-version-check anomalib==2.7.0 pandas==3.1.1
  python=python/bin/python
fi
cat > table.py <<'EOP'
from pathlib import Path

import pandas as pd
from anomalib.data.datasets.image.tabular import make_tabular_dataset

root = Path("data")
root.mkdir()
for name in ["a.png", "b.png", "b_mask.png"]:
    (root / name).write_bytes(b"")
columns = {"image_path": ["a.png", "b.png"], "label_index": [0, 1], "split": ["train", "test"]}
with_masks = pd.DataFrame(columns | {"mask_path": ["", "b_mask.png"]})


def read(name, table):
    try:
        print(f"{name}: {len(make_tabular_dataset(table, root=root))} rows")
    except TypeError as error:
        print(f"{name}: TypeError: {error}")


read("without masks", pd.DataFrame(columns))
read("with masks", with_masks)
read("with masks, as objects", with_masks.astype(object))
EOP
seen=$(HF_HUB_OFFLINE=1 "$python" -W ignore table.py)
echo "$seen"
[ "$seen" = "without masks: 2 rows
with masks: TypeError: Invalid value for dtype 'str'. Value should be a string or missing value (or array of those).
with masks, as objects: 2 rows" ] || { echo "CHANGED: anomalib reads tables with masks otherwise"; exit 1; }
echo "As stated."
