"""Knowledge files: probe, positions, flux and background that jobs take for those of a scan, in place of its own."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.data.contract import check_scan
from ptycho.data.npz import Npz, save_arrays
from ptycho.data.scan import Scan, open_scan
from ptycho.workflow.files import ContractError, StrPath

KEYS = ("probeGuess", "xcoords", "ycoords", "exposure_scale", "metadata")
"""Arrays of a knowledge file; where there is a background, `background` is one more."""
MAX_SHIFT_PX = 64.0
"""Largest distance along either axis of a position from that of its scan."""

SAME_PHOTONS = 1.0e-3
"""Probes whose photons differ by a smaller fraction have the same: a refinement keeps them but for rounding."""


@dataclass(frozen=True, kw_only=True)
class Knowledge:
    """What is taken for known of a scan's M exposures."""

    probe: NDArray[np.complex64]
    """(modes, N, N) illumination [sqrt(photon)]."""
    xcoords: NDArray[np.float64]
    """(M,) patch centers along x, columns [px]."""
    ycoords: NDArray[np.float64]
    """(M,) patch centers along y, rows [px]."""
    exposure_scale: NDArray[np.float64]
    """(M,) incident photons in units of the probe's."""
    background: NDArray[np.float32] | None
    """(N, N) mean counts beside those of the sample [photon]."""

    def of(self, scan: Scan) -> Scan:
        """Return a scan with this in place of its own; if it has a part of the photons, with that part of all."""
        probe, background, photons = self.probe, self.background, photons_of(self.probe)
        fraction = photons_of(scan.probe) / photons if 0 < photons < np.inf else 1.0  # `open_known` refuses others
        if abs(fraction - 1) > SAME_PHOTONS:
            probe = probe * np.float32(np.sqrt(fraction))
            background = None if background is None else background * np.float32(fraction)
        detector = replace(scan.detector, background=background, exposure_scale=self.exposure_scale)
        return replace(scan, probe=probe, xcoords=self.xcoords, ycoords=self.ycoords, detector=detector)


def photons_of(probe: NDArray[np.complexfloating]) -> float:
    """Return Σ|P|² of a probe [photon]; 0 of what is no complex array."""
    if probe.dtype.kind != "c":
        return 0.0
    return float(np.sum(np.abs(probe.astype(np.complex128)) ** 2))


def save_knowledge(path: StrPath, knowledge: Knowledge, **metadata: Any) -> None:
    """Write knowledge as NPZ that is complete or absent; `metadata` is JSON-serializable."""
    more = {} if knowledge.background is None else {"background": knowledge.background}
    save_arrays(
        path,
        probeGuess=knowledge.probe,
        xcoords=knowledge.xcoords,
        ycoords=knowledge.ycoords,
        exposure_scale=knowledge.exposure_scale,
        **more,
        metadata=np.array(json.dumps(metadata)),
    )


def open_known(scan_path: StrPath, path: StrPath | None) -> Scan:
    """Open a scan with what is known of it.

    Parameters
    ----------
    scan_path : path
        The scan.
    path : path, optional
        Knowledge file; without one, the scan's own probe, positions, flux and background are taken.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If a file is missing or damaged, or is not of this scan.
    """
    scan = open_scan(scan_path)
    if not path:
        return scan
    with Npz(path) as file:
        file.require(*KEYS)
        file.metadata()
        known = Knowledge(
            probe=file.array("probeGuess"),
            xcoords=file.array("xcoords"),
            ycoords=file.array("ycoords"),
            exposure_scale=file.array("exposure_scale"),
            background=file.array("background") if "background" in file else None,
        ).of(scan)
    _check_shifts(Path(path), known, scan)
    check_scan(replace(known, path=Path(path), xcoords=scan.xcoords, ycoords=scan.ycoords))
    return known


def _check_shifts(path: Path, known: Scan, scan: Scan) -> None:
    """Refuse positions of another type or shape than the scan's, or far from them; they may leave its object plane."""
    for key in ("xcoords", "ycoords"):
        coords, own = getattr(known, key), getattr(scan, key)
        if coords.dtype != np.float64 or coords.shape != own.shape:
            found = f"{coords.dtype} with shape {coords.shape}"
            raise ContractError(f"{path}: '{key}' is {found}; wanted float64 {own.shape}")
        if not (np.abs(coords - own) <= MAX_SHIFT_PX).all():
            raise ContractError(
                f"{path}: '{key}' has positions that are not finite, or further than {MAX_SHIFT_PX:g} px from those of "
                f"{scan.path}; wanted what is known of this scan"
            )
