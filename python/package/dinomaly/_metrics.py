"""The seven metrics of any detector, from arrays."""

from ._dinomaly import metrics


def evaluate(masks, maps, labels, scores, *, threshold=None, intervals=0, seed=0):
    """Computes the seven metrics of one product's photos, as the official evaluation of Dinomaly does.

    Args:
        masks: a mask for each photo, of its map's shape: bool, integers (not 0 is defective) or floats (above 0.5 is defective).
            A good photo may have None. None in place of all of them leaves out the pixel metrics.
        maps: an anomaly map for each photo, height x width, larger values more anomalous. Maps may differ in size. An array
            of photos x height x width does, too. Single precision; other floats are rounded to it.
        labels: for each photo whether it is defective; None takes what the masks say.
        scores: an image score for each photo, likewise rounded.
        threshold: a score above which a photo is called defective.
        intervals: a number of resamples of the photos, such as 1000, good and defective ones apart, for confidence intervals of 95 %.
        seed: that of the resamples.

    Returns:
        `i_auroc`, `i_ap`, `i_f1max`, `p_auroc`, `p_ap`, `p_f1max` and `aupro` as shares of 1, None where one is undefined, and
        `undefined`: a sentence for each of those. Beside them `aupimo`, None where it is undefined; `i_f1`, the F1 of photos at the
        threshold, if one is given; `intervals`, the lower and upper end for each of these names, if they are asked for.

    Arrays of float32 and bool whose rows lie one behind the other are not copied.
    """
    import numpy as np

    scores = flat(scores, "scores", np.float32)
    masks = None if masks is None else [of_mask(mask, i) for i, mask in enumerate(items(masks, "masks"))]
    maps = None if maps is None else [of_map(values, i) for i, values in enumerate(items(maps, "maps"))]
    if (masks is None) != (maps is None):
        raise ValueError("masks and maps belong together: give both, or None for both")
    if labels is None:
        if masks is None:
            raise ValueError("without masks, labels must say which photos are defective")
        labels = [mask is not None and bool(mask.any()) for mask in masks]
    labels = flat(labels, "labels", bool)
    counts = {"masks": masks, "maps": maps, "labels": labels, "scores": scores}
    counts = {name: len(values) for name, values in counts.items() if values is not None}
    if len(set(counts.values())) > 1:
        raise ValueError("each photo has one of each: found " + ", ".join(f"{n} {name}" for name, n in counts.items()))
    for i, (values, mask) in enumerate(zip(maps or [], masks or [])):
        if mask is not None and mask.shape != values.shape:
            raise ValueError(f"mask {i} is of shape {mask.shape}, its map of {values.shape}: expected equal ones")
    if intervals and intervals < 2:
        raise ValueError(f"intervals is {intervals}: expected a number of resamples, such as 1000, or 0 for none")
    return metrics(maps, masks, labels.tolist(), scores.tolist(), (threshold, intervals, seed))


def items(values, name):
    """The arrays of a list, or of an array of arrays; a channel of one is left out."""
    if isinstance(values, (list, tuple)):
        return values
    array = as_array(values, name)
    if array.ndim == 4 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 3:
        raise ValueError(f"{name} are an array of shape {array.shape}: expected photos x height x width, or a list")
    return array


def of_map(values, i):
    """A map in single precision, in rows that lie one behind the other."""
    import numpy as np

    array = plane(as_array(values, f"map {i}"), f"map {i}")
    if array.dtype.kind not in "fiu":
        raise TypeError(f"map {i} is an array of {array.dtype}: expected floats")
    return np.ascontiguousarray(array, dtype=np.float32)


def of_mask(values, i):
    """A mask of true and false, or None."""
    import numpy as np

    if values is None:
        return None
    array = plane(as_array(values, f"mask {i}"), f"mask {i}")
    if array.dtype.kind == "f":
        return np.ascontiguousarray(array > 0.5)
    if array.dtype.kind not in "biu":
        raise TypeError(f"mask {i} is an array of {array.dtype}: expected bool, integers or floats")
    if array.dtype.kind == "b":
        array = np.ascontiguousarray(array)
        # Bytes that somebody calls bool may hold more than 0 and 1.
        return array if array.view(np.uint8).max(initial=0) <= 1 else array.view(np.uint8) != 0
    return np.ascontiguousarray(array != 0)


def plane(array, name):
    """An array of height x width; a channel of one is left out."""
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 2:
        raise ValueError(f"{name} is of shape {array.shape}: expected height x width")
    return array


def flat(values, name, dtype):
    """A value for each photo."""
    array = as_array(values, name)
    if array.ndim != 1:
        raise ValueError(f"{name} are of shape {array.shape}: expected one value for each photo")
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} are of {array.dtype}: expected numbers")
    return array.astype(dtype)


def as_array(values, name):
    """What numpy makes of an array, tensor or list."""
    import numpy as np

    try:
        return np.from_dlpack(values) if is_dlpack_only(values) else np.asarray(values)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{name} cannot become an array of numpy: {reason}") from error


def is_dlpack_only(values):
    return hasattr(values, "__dlpack__") and not hasattr(values, "__array__")
