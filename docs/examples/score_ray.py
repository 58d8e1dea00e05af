"""Photos of a folder or bucket through Ray Data: python score_ray.py MODEL PHOTOS RESULTS

Each worker loads the model once. Ray starts a worker that dies again and gives its photos to another.
"""

import sys

import dinomaly
import ray


class Scorer:
    """Rows of photos, with the columns of `dinomaly score`."""

    def __init__(self, model):
        self.detector = dinomaly.Detector.load(model)

    def __call__(self, batch):
        rows = [self.row(path, content) for path, content in zip(batch["path"], batch["bytes"])]
        return {column: [row[column] for row in rows] for column in rows[0]}

    def row(self, path, content):
        row = dict.fromkeys(["photo", "score", "threshold", "normalised", "defective", "verdict", "nearest", "error"])
        row["photo"] = path
        try:
            found = self.detector.detect(content)
        except dinomaly.Error as error:
            row["error"] = str(error)
            return row
        columns = ["score", "threshold", "normalised", "defective", "verdict", "nearest"]
        return row | {column: getattr(found, column) for column in columns}


def score(model, photos, results, workers=2):
    """Writes Parquet files of rows, whose photos are read with `file_extensions` of the program."""
    endings = ["png", "jpg", "jpeg", "jfif", "jpe", "bmp", "tif", "tiff", "webp"]
    files = ray.data.read_binary_files(photos, include_paths=True, file_extensions=endings)
    rows = files.map_batches(
        Scorer,
        fn_constructor_args=[model],
        batch_size=16,
        compute=ray.data.ActorPoolStrategy(size=workers),
        # For GPUs: num_gpus=1, and Detector.load(model, device="cuda").
        num_cpus=1,
    )
    rows.write_parquet(results)


if __name__ == "__main__":
    score(*sys.argv[1:4])
