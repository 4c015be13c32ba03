"""Flaws: what methods are told of a scan is made wrong by known amounts; what was measured stays as it is.

Positions get independent errors, or a drift; the probe another defocus, or fewer incoherent modes; flux or background
are not told at all. The errors of a scan are the same draw whatever their size: two sizes of a flaw differ in nothing
else.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ptycho.data.knowledge import Knowledge, photons_of
from ptycho.data.scan import Scan
from ptycho.physics.probes import scale_to

WAVES = (1, 2, 3)
"""Periods of a drift's slow waves within the scan."""


@dataclass(frozen=True, kw_only=True)
class Flaw:
    """What methods are told wrong; by default nothing."""

    positions_px: float = 0.0
    """RMS length of independent errors of the positions [px]."""
    drift_px: float = 0.0
    """RMS length of errors of the positions that change slowly along the scan [px]."""
    defocus: float = 0.0
    """Error of the probe's defocus, as a fraction of it."""
    missing_modes: int = 0
    """Number of the probe's weakest incoherent modes that are not told; the others get their photons."""
    flux: str = "told"
    """"told", or "unknown": every exposure is said to have the same."""
    background: str = "told"
    """"told", or "unknown": it is said that there is none."""


def drift(count: int, rms_px: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return (2, count) shifts [px] of that rms length: slow waves of random phase along the scan, see `WAVES`."""
    time = np.linspace(0, 2 * np.pi, count)
    waves = np.zeros((2, count))
    for k in WAVES:
        waves += rng.normal(size=(2, 1)) * np.sin(k * time + 2 * np.pi * rng.random((2, 1))) / k
    return waves * rms_px / np.sqrt((waves**2).sum(0).mean())


def position_errors(flaw: Flaw, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw the errors of `count` positions in the order of the scan.

    Parameters
    ----------
    flaw : Flaw
        Their sizes; a generator in the same state gives the same errors, scaled.
    count : int
        Number of exposures.
    rng : Generator
        Source of the draw.

    Returns
    -------
    (2, count) float64
        Rows and columns [px].
    """
    independent = rng.normal(size=(2, count)) * flaw.positions_px / np.sqrt(2)
    return independent + drift(count, flaw.drift_px, rng)


def told_probe(
    probe: NDArray[np.complexfloating], missing_modes: int, wrong: NDArray[np.complexfloating] | None = None
) -> NDArray[np.complex64]:
    """Return the probe that methods are told: a wrong one, or without its weakest modes, with the photons of the right.

    Parameters
    ----------
    probe : (modes, N, N) complex
        The right one [sqrt(photon)].
    missing_modes : int
        Number of its weakest modes that are left out, less than all.
    wrong : (modes, N, N) complex, optional
        Takes its place.
    """
    known = probe if wrong is None else wrong
    power = np.sum(np.abs(known) ** 2, axis=(1, 2), dtype=np.float64)
    strongest = np.sort(np.argsort(-power, kind="stable")[: len(known) - missing_modes])
    return known if wrong is None and not missing_modes else scale_to(known[strongest], photons_of(probe))


def tell(
    scan: Scan, flaw: Flaw, rng: np.random.Generator, wrong_probe: NDArray[np.complexfloating] | None = None
) -> Knowledge:
    """Return what methods are told of a scan.

    Parameters
    ----------
    scan : Scan
        With what is right.
    flaw : Flaw
        What is told wrong.
    rng : Generator
        Source of the errors of positions.
    wrong_probe : (modes, N, N) complex, optional
        Probe with the flaw's defocus, of any number of photons.
    """
    errors, detector = position_errors(flaw, len(scan), rng), scan.detector
    scale = None if flaw.flux == "unknown" else detector.exposure_scale
    return Knowledge(
        probe=told_probe(scan.probe, flaw.missing_modes, wrong_probe),
        ycoords=scan.ycoords + errors[0],
        xcoords=scan.xcoords + errors[1],
        exposure_scale=np.ones(len(scan)) if scale is None else scale,
        background=None if flaw.background == "unknown" else detector.background,
    )
