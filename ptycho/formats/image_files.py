"""Images: PNG and TIFF, told by their content, and no larger than what they are read as."""

import io
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ptycho.formats.inputs import MAX_ARRAY_BYTES
from ptycho.workflow.damage import reading, require_file
from ptycho.workflow.files import ContractError, StrPath
from ptycho.workflow.limits import check_bytes

if TYPE_CHECKING:
    from tifffile import TiffFile

PNG = b"\x89PNG\r\n\x1a\n"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of a file, of TIFF in either byte order, and of BigTIFF."""
SUFFIXES = (".tif", ".tiff", ".png")
"""Suffixes of images."""


def read_image(path: StrPath, kinds: str = "uif") -> NDArray[Any]:
    """Read an image, (H, W) or (H, W, channels), without axes of length 1.

    No other decoder is asked than that of PNG or TIFF, whatever the file's name says.

    Parameters
    ----------
    path : path
        The file.
    kinds : str
        Kinds of NumPy's types that a TIFF may hold: u and i integers, f floats, b truth values.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If the file is missing, damaged, of another kind, too large, or of another type.
    """
    path = Path(path)
    with reading(path, "the image"):
        require_file(path)
        with path.open("rb") as file:
            start = file.read(len(PNG))
        if start.startswith(PNG):
            image = _read_png(path)
        elif start.startswith(TIFF):
            image = _read_tiff(path, kinds)
        else:
            raise ContractError(f"{path}: neither a PNG nor a TIFF image by its content; wanted one of them")
    return np.squeeze(image)


class _Bounded(io.BufferedReader):
    """A file of which never more is asked than it has: `read` allocates what it is asked for, before it reads."""

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(os.fstat(self.fileno()).st_size - self.tell(), 0)
        return super().read(left if size is None or size < 0 else min(size, left))


@contextmanager
def open_tiff(path: StrPath) -> Iterator["TiffFile"]:
    """Open a TIFF file; what its tags declare allocates nothing that is larger than the file."""
    import tifffile

    with _Bounded(io.FileIO(path)) as file, tifffile.TiffFile(file) as tiff:
        yield tiff


def _read_png(path: Path) -> NDArray[Any]:
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is compared with the limit below
        with _Bounded(io.FileIO(path)) as file, Image.open(file, formats=("PNG",)) as image:
            _check_pixels(path, (image.height, image.width, len(image.getbands())))
            if image.mode in ("P", "PA"):
                return np.asarray(image.convert("RGB"))
            return np.asarray(image)


def _read_tiff(path: Path, kinds: str) -> NDArray[Any]:
    with open_tiff(path) as file:
        series = file.series[0]
        shape, dtype = series.shape, series.dtype
        if dtype is None or dtype.kind not in kinds:
            kind = {"c": "complex numbers", "b": "truth values"}.get("" if dtype is None else dtype.kind, str(dtype))
            raise ContractError(
                f"{path}: an image of {kind}; wanted integers or floats: write amplitude and phase as two images, "
                "truth values as 0 and 255"
            )
        _check_pixels(path, shape)
        return series.asarray()


def _check_pixels(path: Path, shape: tuple[int, ...]) -> None:
    """Refuse an image that is too large in float64, as which it is processed."""
    check_bytes(path, f"an image of shape {shape}", 8 * math.prod(shape), MAX_ARRAY_BYTES)
