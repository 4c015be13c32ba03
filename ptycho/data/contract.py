"""Checks of a scan against the data contract, which docs/reference/files.md describes."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ptycho.data.lazy import LazyArray
from ptycho.data.npz import open_member
from ptycho.physics.detector import Detector
from ptycho.workflow.files import ContractError

if TYPE_CHECKING:
    from ptycho.data.scan import Scan

LENGTHS = ("pixel_size_m", "wavelength_m", "photons_per_unit")
"""Keys of the metadata, all optional, that hold a number above 0."""
MEAN_SCALE = 0.1, 10.0
"""Smallest and largest mean of `exposure_scale`: that of a whole scan is 1, that of a part of it somewhat different."""


def read_metadata(path: Path) -> dict[str, Any]:
    """Read the metadata of a scan.

    Raises
    ------
    ContractError
        If they are not JSON, have no `dose`, or say something impossible about the measurement.
    """
    text = str(open_member(path, "metadata")[()])
    try:
        metadata = json.loads(text)
        float(metadata["dose"])
    except (ValueError, TypeError, KeyError):
        raise ContractError(
            f"{path}: 'metadata' is {text[:80]!r}; wanted JSON with at least 'dose', the photons per exposure"
        ) from None
    for key in LENGTHS:
        value = metadata.get(key, 1.0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < np.inf:
            raise ContractError(f"{path}: '{key}' in 'metadata' is {value!r}; wanted a number above 0")
    steps = metadata.get("conversion", [])
    if not isinstance(steps, list) or not all(isinstance(step, str) for step in steps):
        raise ContractError(f"{path}: 'conversion' in 'metadata' is {steps!r}; wanted a list of texts, one a step")
    return metadata


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
    if not len(scan.xcoords) == len(scan.ycoords) == count:
        raise ContractError(
            f"{scan.path}: {count} patterns but {len(scan.xcoords)} x- and {len(scan.ycoords)} y-coordinates"
        )
    if frames.shape[1] != n or scan.probe.shape[1:] != (n, n) or n % 2:
        raise ContractError(
            f"{scan.path}: patterns of {frames.shape[1:]} with a probe of {scan.probe.shape[1:]}; wanted one even N × N"
        )
    _check_positions(scan, n)
    _check_detector(scan, count, n)
    n_invalid = int((~np.isfinite(scan.probe)).sum())
    if n_invalid or not scan.probe.any():
        problem = f"holds {n_invalid} values that are not finite" if n_invalid else "is zero everywhere"
        raise ContractError(f"{scan.path}: 'probeGuess' {problem}")


def _check_positions(scan: "Scan", n: int) -> None:
    span = max(float(np.ptp(axis)) for axis in (scan.xcoords, scan.ycoords)) if len(scan) > 1 else 1.0
    if span < 1:
        raise ContractError(f"{scan.path}: positions span {span:.2g} px; wanted object pixels, not meters")
    for key, coords, size in (
        ("ycoords", scan.ycoords, scan.object.shape[0]),
        ("xcoords", scan.xcoords, scan.object.shape[1]),
    ):
        if not np.isfinite(coords).all():
            raise ContractError(f"{scan.path}: '{key}' holds values that are not finite")
        if coords.size and (coords.min() < n // 2 - 0.5 or coords.max() >= size - n // 2 + 0.5):
            raise ContractError(
                f"{scan.path}: '{key}' spans {coords.min():.1f}..{coords.max():.1f}; wanted {n // 2}..{size - n // 2} "
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
