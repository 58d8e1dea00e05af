"""Find defects on photos after training on photos of good parts."""

import os
from collections.abc import Callable
from typing import Any, Literal, Protocol, TypedDict, Union, overload

import numpy as np
import numpy.typing as npt
from PIL import Image

__version__: str

class _Array(Protocol):
    def __array__(self) -> npt.NDArray[Any]: ...

class _Dlpack(Protocol):
    def __dlpack__(self) -> Any: ...

_Path = Union[str, os.PathLike[str]]
_Photo = Union[_Path, bytes, bytearray, Image.Image, npt.NDArray[np.uint8], npt.NDArray[np.uint16], _Array, _Dlpack]
_Photos = Union[_Path, list[Any], tuple[Any, ...]]
_Listen = Callable[[Progress], object]

class Error(RuntimeError):
    """What is wrong, in one sentence that names the file, tensor or option."""

class Progress:
    """How far long work is."""

    what: str
    done: int
    total: int
    unit: str
    message: str

class Region:
    """A part of a photo whose map lies above the pixel threshold, in pixels of the photo."""

    x0: float
    y0: float
    x1: float
    y1: float
    area: float
    peak: float
    mean: float
    outline: list[tuple[float, float]]

class Result:
    """What a model says about a photo."""

    @property
    def score(self) -> float: ...
    @property
    def threshold(self) -> float: ...
    @property
    def normalised(self) -> float: ...
    @property
    def verdict(self) -> Literal["good", "defective", "unknown"]: ...
    @property
    def defective(self) -> bool: ...
    @property
    def nearest(self) -> str | None: ...
    @property
    def pixel_threshold(self) -> float | None: ...
    @property
    def map(self) -> npt.NDArray[np.float32]: ...
    @property
    def region(self) -> tuple[float, float, float, float]: ...
    @property
    def size(self) -> tuple[int, int]: ...
    @property
    def regions(self) -> list[Region] | None: ...
    def regions_above(self, pixel_threshold: float, min_area: float = 0.0) -> list[Region]: ...
    def heatmap(self, opacity: float = 0.5, *, outlines: bool = False) -> Image.Image: ...

class Detector:
    """A model, loaded once, that looks at photos."""

    @staticmethod
    def load(path: _Path, *, device: str = "cpu", int8: bool = False) -> Detector: ...
    @staticmethod
    def few_shot(
        photos: _Photos, *, device: str = "cpu", progress: _Listen | None = None, **options: Any
    ) -> Detector: ...
    @overload
    def detect(self, photos: list[Any] | tuple[Any, ...], *, class_name: str | None = None) -> list[Result]: ...
    @overload
    def detect(self, photos: _Photo, *, class_name: str | None = None) -> Result: ...
    @property
    def name(self) -> str: ...
    @property
    def classes(self) -> list[str]: ...
    @property
    def thresholds(self) -> dict[str, float]: ...

class _Always(TypedDict):
    i_auroc: float | None
    i_ap: float | None
    i_f1max: float | None
    p_auroc: float | None
    p_ap: float | None
    p_f1max: float | None
    aupro: float | None
    undefined: list[str]
    aupimo: float | None

class _Metrics(_Always, total=False):
    i_f1: float | None
    intervals: dict[str, tuple[float, float] | None]

def train(
    photos: _Path, out: _Path, *, device: str = "cpu", progress: _Listen | None = None, **options: Any
) -> Detector: ...
def few_shot(
    photos: _Photos, out: _Path, *, device: str = "cpu", progress: _Listen | None = None, **options: Any
) -> Detector: ...
def evaluate(
    masks: Any, maps: Any, labels: Any, scores: Any, *, threshold: float | None = None, intervals: int = 0, seed: int = 0
) -> _Metrics: ...
