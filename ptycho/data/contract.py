"""Checks of a scan against the data contract, which docs/reference/files.md describes."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ptycho.data.lazy import LazyArray
from ptycho.data.mapped import row_blocks
from ptycho.physics.detector import Detector
from ptycho.workflow.damage import is_of
from ptycho.workflow.files import ContractError, StrPath

if TYPE_CHECKING:
    from ptycho.data.scan import Scan

LENGTHS = ("pixel_size_m", "wavelength_m", "photons_per_unit")
"""Keys of the metadata, all optional, that hold a number above 0."""
PIXEL_M = 1e-12, 1e-3
"""Smallest and largest pixel of an object that a microscope has [m]."""
MAX_PHOTONS = 1e30
"""More photons than any source has in an exposure: such a probe is damaged, or in other units."""
MEAN_SCALE = 0.1, 10.0
"""Smallest and largest mean of `exposure_scale`: that of a whole scan is 1, that of a part of it somewhat different."""


def check_pixel_size(path: StrPath, pixel_m: Any) -> float | None:
    """Return `pixel_size_m` of some metadata; None if they have none.

    Raises
    ------
    ContractError
        If it is no pixel of an object.
    """
    if pixel_m is not None and not (is_of(pixel_m, float) and PIXEL_M[0] <= pixel_m <= PIXEL_M[1]):
        wanted = "wanted one of 1 pm to 1 mm, in meters"
        raise ContractError(f"{path}: 'pixel_size_m' in 'metadata' is {pixel_m!r}; {wanted}")
    return pixel_m


def check_metadata(path: Path, metadata: dict[str, Any]) -> None:
    """Check the metadata of a scan.

    Raises
    ------
    ContractError
        If they have no `dose`, or say something impossible about the measurement.
    """
    if "dose" not in metadata:
        raise ContractError(
            f"{path}: 'metadata' is {str(metadata)[:80]!r}; wanted JSON with at least 'dose', the photons per exposure"
        )
    for key in ("dose", *LENGTHS):
        value = metadata.get(key, 1.0)
        if not is_of(value, float) or value <= 0:
            raise ContractError(f"{path}: '{key}' in 'metadata' is {value!r}; wanted a number above 0")
    check_pixel_size(path, metadata.get("pixel_size_m"))
    steps = metadata.get("conversion", [])
    if not isinstance(steps, list) or not all(isinstance(step, str) for step in steps):
        raise ContractError(f"{path}: 'conversion' in 'metadata' is {steps!r}; wanted a list of texts, one a step")


def check_scan(scan: "Scan") -> None:
    """Check a scan against the data contract: dtypes, shapes, positions inside the object.

    Raises
    ------
    ContractError
        At the first violation.
    """
    frames = scan.diffraction
    wanted: dict[str, tuple[LazyArray, type[np.generic], int]] = {
        "diffraction": (frames, np.float32, 3),
        "xcoords": (scan.xcoords, np.float64, 1),
        "ycoords": (scan.ycoords, np.float64, 1),
        "probeGuess": (scan.probe, np.complex64, 3),
        "objectGuess": (scan.object, np.complex64, 2),
    }
    for key, (array, dtype, ndim) in wanted.items():
        if array.dtype != dtype or len(array.shape) != ndim:
            raise ContractError(
                f"{scan.path}: '{key}' is {array.dtype} with shape {array.shape}; "
                f"wanted {ndim} axes of {np.dtype(dtype)}"
            )
    count, n = frames.shape[0], frames.shape[-1]
    if not count or not n:
        raise ContractError(f"{scan.path}: 'diffraction' has shape {frames.shape}; wanted at least one pattern")
    if not len(scan.xcoords) == len(scan.ycoords) == count:
        raise ContractError(
            f"{scan.path}: {count} patterns but {len(scan.xcoords)} x- and {len(scan.ycoords)} y-coordinates"
        )
    if frames.shape[1] != n or scan.probe.shape[1:] != (n, n) or n % 2:
        raise ContractError(
            f"{scan.path}: patterns of {frames.shape[1:]} with a probe of {scan.probe.shape[1:]}; wanted one even N × N"
        )
    check_positions(scan.path, (scan.ycoords, scan.xcoords), scan.object.shape, n)
    _check_detector(scan, count, n)
    _check_probe(scan.path, scan.probe)


def _check_probe(path: Path, probe: NDArray[np.complex64]) -> None:
    n_invalid = int((~np.isfinite(probe)).sum())
    if n_invalid:
        raise ContractError(f"{path}: 'probeGuess' holds {n_invalid} values that are not finite")
    photons = float(np.sum(np.abs(probe.astype(np.complex128)) ** 2))
    if not 0 < photons < MAX_PHOTONS:
        problem = f"has Σ|P|² = {photons:.3g}" if photons else "is zero everywhere"
        raise ContractError(f"{path}: 'probeGuess' {problem}; wanted the photons of an exposure")


def check_finite(path: StrPath, key: str, array: LazyArray) -> None:
    """Check that an array holds finite numbers; of one in a file, a block of rows is in memory at a time.

    Raises
    ------
    ContractError
        If it holds others.
    """
    count = sum(int((~np.isfinite(array[rows])).sum()) for rows in row_blocks(array))
    if count:
        raise ContractError(f"{path}: '{key}' holds {count} values that are not finite; wanted finite ones")


def check_index(path: Path, index: NDArray[Any], count: int, *, distinct: bool) -> None:
    """Check `scan_index`, which says for every exposure which one of another scan it was.

    Raises
    ------
    ContractError
        If it is something else than (M,) integers, or, if they are to be distinct, holds one twice or a negative one.
    """
    key = "scan_index"
    if index.dtype.kind not in "iu" or index.shape != (count,):
        raise ContractError(f"{path}: '{key}' is {index.dtype} with shape {index.shape}; wanted ({count},) integers")
    if distinct and index.size and (index.min() < 0 or len(np.unique(index)) < count):
        raise ContractError(f"{path}: '{key}' holds negative or equal numbers; wanted an exposure of its own for each")


def check_positions(
    path: Path, positions: tuple[NDArray[np.float64], NDArray[np.float64]], shape: tuple[int, ...], n: int
) -> None:
    """Check positions, (ycoords, xcoords) [px], against the object of a shape and windows of n px.

    Raises
    ------
    ContractError
        If one is not finite, they are in another unit than pixels, or a window leaves the object.
    """
    span = max(float(np.ptp(axis)) for axis in positions) if positions[0].size > 1 else 1.0
    if span < 1:
        raise ContractError(f"{path}: positions span {span:.2g} px; wanted object pixels, not meters")
    for key, coords, size in zip(("ycoords", "xcoords"), positions, shape, strict=True):
        if not np.isfinite(coords).all():
            raise ContractError(f"{path}: '{key}' holds values that are not finite")
        if coords.size and (coords.min() < n // 2 - 0.5 or coords.max() >= size - n // 2 + 0.5):
            raise ContractError(
                f"{path}: '{key}' spans {coords.min():.1f}..{coords.max():.1f}; wanted {n // 2}..{size - n // 2} "
                f"so that every {n} px window lies in the object of {size} px"
            )


def _check_detector(scan: "Scan", count: int, n: int) -> None:
    wanted = {
        "bad_pixels": (np.bool_, (n, n)),
        "background": (np.float32, (n, n)),
        "exposure_scale": (np.float64, (count,)),
    }
    for key, array in scan.detector.arrays().items():
        dtype, shape = wanted[key]
        if array.dtype != dtype or array.shape != shape:
            raise ContractError(
                f"{scan.path}: '{key}' is {array.dtype} with shape {array.shape}; wanted {np.dtype(dtype)} {shape}"
            )
    _check_values(scan.path, scan.detector, n)


def _check_values(path: Path, detector: Detector, n: int) -> None:
    if not detector.n_valid(n):
        raise ContractError(f"{path}: 'bad_pixels' is True everywhere; wanted it where a pixel counts for nothing")
    if detector.background is not None:
        valid = detector.valid_values(detector.background[None])
        if not (np.isfinite(valid) & (valid >= 0)).all():
            raise ContractError(f"{path}: 'background' is {valid.min()} in a valid pixel; wanted mean counts ≥ 0")
    scale = np.ones(1) if detector.exposure_scale is None else detector.exposure_scale
    if not (np.isfinite(scale) & (scale > 0)).all():
        raise ContractError(f"{path}: 'exposure_scale' holds {scale.min()}; wanted numbers above 0")
    if scale.size and not MEAN_SCALE[0] < scale.mean() < MEAN_SCALE[1]:
        raise ContractError(
            f"{path}: 'exposure_scale' has a mean of {scale.mean():.4g}; wanted 1: the incident photons of every "
            "exposure, divided by their mean"
        )


def check_exposures(path: StrPath, key: str, exposures: NDArray[Any], scan: "Scan | None") -> None:
    """Check that an array holds exposures of a scan, each once, ascending.

    Raises
    ------
    ContractError
        If it does not.
    """
    if exposures.dtype.kind != "i" or exposures.ndim != 1:
        raise ContractError(f"{path}: '{key}' is {exposures.dtype} with shape {exposures.shape}; wanted integers, (m,)")
    if (np.diff(exposures) <= 0).any():
        raise ContractError(f"{path}: '{key}' is not ascending, or has an exposure twice; wanted each once, in order")
    lowest, highest = exposures.min(initial=0), exposures.max(initial=0)
    if lowest < 0 or (scan is not None and exposures.size and highest >= len(scan)):
        has = "" if scan is None else f"; {scan.path} has {len(scan)}"
        raise ContractError(f"{path}: '{key}' has exposures {lowest} to {highest}{has}: wanted those of its scan")
