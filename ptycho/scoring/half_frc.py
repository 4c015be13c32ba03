"""Agreement of reconstructions of two independent halves of the photons, which needs no truth.

Whatever a method adds by itself, such as a prior or early stopping, is present in both halves and counts as agreement.
These curves measure repeatability, not accuracy, and do not rank methods; `WARNING` accompanies them everywhere.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ptycho.data.contract import check_finite
from ptycho.data.scan import Scan
from ptycho.data.views import View
from ptycho.scoring.frc import THRESHOLDS, frc, frc_crossing, half_thresholds, ssnr_of_halves
from ptycho.scoring.metrics import PARTS
from ptycho.scoring.placement import MARGIN_PX, align_if_possible, illumination_on, load_on_grid
from ptycho.scoring.region import Region, check_scored
from ptycho.workflow.files import StrPath

WARNING = "A prior repeats itself in both halves: this shows repeatability, not accuracy; do not rank methods by it."
"""Shown with every FRC between halves."""


def load_halves(
    paths: tuple[StrPath, StrPath], scan: Scan, view: View, region: Region
) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """Read the reconstructions of both halves and align the first to the second.

    Parameters
    ----------
    paths : (path, path)
        Object files.
    scan, view : Scan, View
        What was split in halves. They give probe, positions and shape of the object plane; the truth is not used.
    region : Region
        Scored rectangle.

    Returns
    -------
    first, second : (h, w) complex128
        Both on the scored rectangle, with the second's mean phase 0, away from the phase wrap.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If one is no object file, or not finite in and around the scored rectangle, or as for
        `ptycho.scoring.region.check_scored`.
    """
    check_scored(scan, view, region)
    shape = scan.object.shape
    wide = region.widened(MARGIN_PX, shape)
    first, second = (load_on_grid(path, shape)[0][wide.box].astype(np.complex128) for path in paths)
    inner = region.inside(wide)
    for path, half in zip(paths, (first, second), strict=True):
        check_finite(path, "object", half)
    aligned, _ = align_if_possible(first, second, illumination_on(wide, scan, view), inner, name=paths[0])
    phase = np.exp(-1j * np.angle(np.sum(second[inner])))
    return aligned * phase, second[inner] * phase


def half_frc(first: NDArray[np.complexfloating], second: NDArray[np.complexfloating]) -> pd.DataFrame:
    """Fourier ring correlation of two independent halves, ring by ring.

    Parameters
    ----------
    first, second : (h, w) complex
        As `load_halves` returns them.

    Returns
    -------
    DataFrame
        Columns part ("amplitude" or "phase"), frequency (fraction of Nyquist), frc, ssnr (of the whole data,
        2 FRC / (1 - FRC)), and the thresholds 1/7, half-bit and 1-bit at that ring.
    """
    tables = []
    for part, images in PARTS.items():
        frequency, correlation = frc(*images(first, second))
        columns = {"frequency": frequency, "frc": correlation, "ssnr": ssnr_of_halves(correlation)}
        tables.append(pd.DataFrame({"part": part, **columns, **half_thresholds(first.shape)}))
    return pd.concat(tables, ignore_index=True)


def half_crossings(curves: pd.DataFrame) -> pd.DataFrame:
    """Find where the FRC between halves first falls below each threshold.

    Parameters
    ----------
    curves : DataFrame
        As `half_frc` returns it, with a column `method`.

    Returns
    -------
    DataFrame
        Columns method, part, threshold, frequency (fraction of Nyquist; 1.0 if never below).
    """
    rows = []
    for (method, part), curve in curves.groupby(["method", "part"], sort=False):
        for threshold in THRESHOLDS:
            frequency, correlation, limit = (curve[column].to_numpy() for column in ("frequency", "frc", threshold))
            rows.append((method, part, threshold, frc_crossing(frequency, correlation, limit)))
    return pd.DataFrame(rows, columns=["method", "part", "threshold", "frequency"])
