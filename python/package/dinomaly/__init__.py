"""Find defects on photos after training on photos of good parts.

    import dinomaly

    detector = dinomaly.few_shot("photos/good", "model")  # or train(...), or Detector.load("model")
    result = detector.detect("photos/new/17.jpg")
    print(result.verdict, result.score)
    result.heatmap().save("heatmap.png")

What long work says goes to the logger "dinomaly" of `logging`.
"""

import os as _os

# Before the first thread of the extension: candle's own threads would take more time than they save.
_os.environ.setdefault("CANDLE_NUM_THREADS", "1")

from ._dinomaly import Detector, Error, Progress, Region, Result, __version__, few_shot, train
from ._metrics import evaluate

__all__ = ["Detector", "Error", "Progress", "Region", "Result", "__version__", "evaluate", "few_shot", "train"]
