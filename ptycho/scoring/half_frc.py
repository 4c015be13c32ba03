"""Reconstructions of two independent halves of the photons: what agrees between them, where there is no truth.

A warning goes with every number: what a method adds by itself, a prior or a habit of stopping, is in both halves and
counts as agreement. These curves say how repeatable a reconstruction is, not how true, and rank no methods.
"""

import numpy as np
import pandas as pd

from ptycho.data.scan import Scan
from ptycho.data.views import View
from ptycho.scoring.evaluate import MARGIN_PX, Region, align_if_possible, illumination_on, load_on_grid
from ptycho.scoring.frc import frc, frc_crossing, half_thresholds, ssnr_of_halves
from ptycho.scoring.metrics import amplitude_images, phase_images

WARNING = "A prior repeats itself in both halves: this is what repeats, not what is true; it ranks no methods."
"""To be shown with every half-scan FRC."""


def load_halves(paths, scan: Scan, view: View, region: Region):
    """Read both reconstructions; the first is aligned to the second as an estimate is to a truth.

    Parameters
    ----------
    paths : (Path, Path)
        Object files. No truth is looked at; `scan` gives probe, positions and the size of the object plane.

    Returns
    -------
    first, second : (h, w) complex128
        The rectangle `region`, turned so that the second's mean phase is 0: away from the wrap.
    """
    shape = scan.object.shape
    wide = region.widened(MARGIN_PX, shape)
    one, two = (load_on_grid(path, shape)[0][wide.box].astype(np.complex128) for path in paths)
    inner = region.inside(wide)
    aligned, _ = align_if_possible(one, two, illumination_on(wide, scan, view), inner, name=paths[0])
    turn = np.exp(-1j * np.angle(np.sum(two[inner])))
    return aligned * turn, two[inner] * turn


def half_frc(first, second) -> pd.DataFrame:
    """Fourier ring correlation of two independent halves, ring by ring.

    Parameters
    ----------
    first, second : (h, w) complex
        As `load_halves` returns them.

    Returns
    -------
    DataFrame
        part ("amplitude" or "phase"), frequency (of Nyquist), frc, ssnr (of the whole, 2 FRC / (1 - FRC)), and the
        thresholds 1/7, half-bit, 1-bit at that ring.
    """
    tables = []
    for part, images in {"amplitude": amplitude_images, "phase": phase_images}.items():
        frequency, correlation = frc(*images(first, second))
        columns = {"frequency": frequency, "frc": correlation, "ssnr": ssnr_of_halves(correlation)}
        tables.append(pd.DataFrame({"part": part, **columns, **half_thresholds(first.shape)}))
    return pd.concat(tables, ignore_index=True)


def half_crossings(curves: pd.DataFrame) -> pd.DataFrame:
    """Where curves of `half_frc`, with a column `method`, first fall below each threshold.

    Returns
    -------
    DataFrame
        method, part, threshold, frequency (of Nyquist; 1.0 if never below).
    """
    rows = []
    for (method, part), curve in curves.groupby(["method", "part"], sort=False):
        for threshold in ("1/7", "half-bit", "1-bit"):
            arrays = (curve[column].to_numpy() for column in ("frequency", "frc", threshold))
            rows.append((method, part, threshold, frc_crossing(*arrays)))
    return pd.DataFrame(rows, columns=["method", "part", "threshold", "frequency"])
