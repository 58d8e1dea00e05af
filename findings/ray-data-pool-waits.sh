#!/usr/bin/env bash
# Ray 2.60.0: a dataset whose pool of actors takes all processors of the cluster waits for ever, without a warning, once batches have a size.
#
# Guess: reading, which the actors wait for, gets a processor before them, or Ray says that there are too few.
# Seen: actors are placed first and keep theirs; reading has none to start with, and progress is logged as if something went on. Without a size
# of batches the actors read themselves:
#     batches of any size: 4 rows
#     batches of 2: no row within 60 s
#     batches of 2, reading asks for no processor: 4 rows
# Ours: docs/examples/score_ray.py reads and writes with num_cpus=0.
# PYTHON names an interpreter that has ray[data] 2.60.0 already.
set -euo pipefail
T=$(mktemp -d); trap 'rm -rf "$T"' EXIT; cd "$T"
python=${PYTHON:-}
if [ -z "$python" ]; then
  python3 -m venv python
  python/bin/pip install -qq --disable-pip-version-check 'ray[data]==2.60.0'
  python=python/bin/python
fi
mkdir files
for i in 1 2 3 4; do echo "$i" > "files/$i.txt"; done
cat > pool.py <<'EOF'
import json
import sys
from pathlib import Path

import ray

ray.init(num_cpus=2, include_dashboard=False)


class Same:
    def __call__(self, batch):
        return batch


size, reading = map(json.loads, sys.argv[1:])
files = ray.data.read_binary_files(str(Path("files").resolve()), **reading)
rows = files.map_batches(Same, batch_size=size, compute=ray.data.ActorPoolStrategy(size=2), num_cpus=1).take_all()
Path("rows").write_text(f"{len(rows)} rows")
EOF
look() {
  rm -f rows
  RAY_USAGE_STATS_ENABLED=0 timeout 60 "$python" pool.py "$@" >log 2>&1 || [ $? = 124 ] || { cat log; exit 1; }
  cat rows 2>/dev/null || echo -n "no row within 60 s"
}
seen="batches of any size: $(look null '{}')
batches of 2: $(look 2 '{}')
batches of 2, reading asks for no processor: $(look 2 '{"num_cpus": 0}')"
echo "$seen"
[ "$seen" = "batches of any size: 4 rows
batches of 2: no row within 60 s
batches of 2, reading asks for no processor: 4 rows" ] || { echo "CHANGED: Ray Data reads otherwise beside a pool that takes all processors"; exit 1; }
echo "As stated."
