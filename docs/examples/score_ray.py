"""Photos of a folder or bucket by Ray Data: Parquet files with a row for each photo.

    pip install "ray[data]" dinomaly-*.whl
    python docs/examples/score_ray.py MODEL FROM TO [--workers 2] [--cores 1]

FROM and TO are paths that every machine of the cluster sees, or URLs such as s3://bucket/folder. TO must not exist yet. MODEL is a folder on every
machine, or hf:OWNER/NAME. The cluster is the one that RAY_ADDRESS names, else this machine.

A worker that dies is started again by Ray, and what it had begun is done again: results hold each photo once.
"""

import argparse
import os

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, SaveMode

ENDINGS = ["png", "jpg", "jpeg", "jfif", "jpe", "bmp", "tif", "tiff", "webp"]
NUMBERS = {name: pa.float32() for name in ("score", "threshold", "normalised")}
VERDICT = {"defective": pa.bool_(), "verdict": pa.string(), "nearest": pa.string()}
SCHEMA = pa.schema({"photo": pa.string()} | NUMBERS | VERDICT | {"error": pa.string()})


class Worker:
    """A detector, and the rows of photos."""

    def __init__(self, model, cores):
        # Before the first import: else every worker of a machine computes on all of its cores.
        os.environ["RAYON_NUM_THREADS"] = str(cores)
        import dinomaly

        self.unusable = dinomaly.Error
        self.detector = dinomaly.Detector.load(model)

    def __call__(self, photos):
        paths, files = photos["path"].to_pylist(), photos["bytes"].to_pylist()
        try:
            rows = [row(result) for result in self.detector.detect(files)]
        except self.unusable:
            rows = [self.alone(file) for file in files]
        return pa.Table.from_pylist([{"photo": path} | row for path, row in zip(paths, rows)], schema=SCHEMA)

    def alone(self, file):
        """The row of a photo that may be damaged."""
        try:
            return row(self.detector.detect(file))
        except self.unusable as error:
            return {"error": str(error)}


def row(result):
    return {name: getattr(result, name) for name in [*NUMBERS, *VERDICT]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("from_", metavar="FROM")
    parser.add_argument("to", metavar="TO")
    parser.add_argument("--workers", type=int, default=1, help="detectors in the whole cluster")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="cores that each of them computes on")
    options = parser.parse_args()
    # Reading and writing ask for no core: Ray would wait for ever where the workers have them all.
    photos = ray.data.read_binary_files(options.from_, include_paths=True, file_extensions=ENDINGS, num_cpus=0, concurrency=2)
    rows = photos.map_batches(
        Worker,
        fn_constructor_args=(options.model, options.cores),
        batch_format="pyarrow",
        batch_size=32,
        compute=ActorPoolStrategy(size=options.workers),
        num_cpus=options.cores,
    )
    rows.write_parquet(options.to, mode=SaveMode.ERROR, ray_remote_args={"num_cpus": 0})


if __name__ == "__main__":
    main()
