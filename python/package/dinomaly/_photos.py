"""Photos in memory -> arrays of the three kinds that a detector takes."""

import sys

EXPECTED = "uint8 of height x width x 3 (RGB) or height x width, or uint16 of height x width"


def pixels(photo, name):
    """The pixels of a picture, array or tensor, in rows that lie one behind the other.

    `name` says in errors which photo it is.
    """
    import numpy as np

    pillow = sys.modules.get("PIL.Image")  # Where Pillow was not imported, there is no picture of it.
    array = of_picture(photo, name) if pillow and isinstance(photo, pillow.Image) else as_array(photo, name)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[2] != 3:
        raise ValueError(
            f"{name} is an array of shape {array.shape}, with its channels first: expected {EXPECTED}; "
            "of a tensor, permute(1, 2, 0)"
        )
    is_shape = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
    if not is_shape:
        raise ValueError(f"{name} is an array of shape {array.shape}: expected {EXPECTED}")
    if not (array.dtype == np.uint8 or (array.dtype == np.uint16 and array.ndim == 2)):
        raise TypeError(f"{name} is an array of {array.dtype} of shape {array.shape}: expected {EXPECTED}")
    return np.ascontiguousarray(array)


def as_array(photo, name):
    """What numpy makes of an array or tensor, without a copy where it can."""
    import numpy as np

    if isinstance(photo, np.ndarray):
        return photo
    try:
        if hasattr(photo, "__array__") or hasattr(photo, "__array_interface__"):
            return np.asarray(photo)
        if hasattr(photo, "__dlpack__"):
            return np.from_dlpack(photo)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{name} cannot become an array of numpy: {reason}") from error
    raise TypeError(
        f"{name} is of type {type(photo).__name__}: expected a path, the bytes of a photo file, a PIL.Image, "
        f"an array or tensor ({EXPECTED}), or a list of those"
    )


def of_picture(picture, name):
    """The pixels of a picture of Pillow, upright by its EXIF orientation as photo files are."""
    import numpy as np
    from PIL import ImageOps

    try:
        upright = ImageOps.exif_transpose(picture)
        if upright.mode in ("L", "RGB") or upright.mode.startswith("I;16"):
            return np.asarray(upright)
        if upright.mode not in ("I", "F"):
            return np.asarray(upright.convert("L" if upright.mode == "1" else "RGB"))
        values = np.asarray(upright)
    except OSError as error:
        raise ValueError(f"{name} cannot be read: {error}") from error
    # Some versions of Pillow open 16-bit grey as 32-bit integers.
    if upright.mode == "I" and values.size and values.min() >= 0 and values.max() <= 65535:
        return values.astype(np.uint16)
    raise ValueError(
        f"{name} is a picture of mode {upright.mode}, which has no fixed black and white: convert it to mode L, RGB or I;16"
    )


def write_all(photos, folder):
    """Writes photos of a list to a folder: files as they are, what is in memory as PNG."""
    import os
    import shutil

    from PIL import Image

    if not isinstance(photos, (list, tuple)):
        raise TypeError(f"photos are of type {type(photos).__name__}: expected a folder, or a list of photos")
    for i, photo in enumerate(photos):
        path = os.path.join(folder, f"{i:06}")
        if isinstance(photo, (str, os.PathLike)):
            shutil.copyfile(photo, path + os.path.splitext(photo)[1])
        elif isinstance(photo, (bytes, bytearray)):
            # The format is told from the content, never from the name.
            with open(path + ".png", "wb") as file:
                file.write(photo)
        else:
            Image.fromarray(pixels(photo, f"photo {i}")).save(path + ".png")
