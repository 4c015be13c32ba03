"""The measured X-ray scan of a Siemens star in tike's source distribution."""

import bz2
import io
from pathlib import Path
from typing import Any

import numpy as np

from ptycho.formats.arrays import MARGIN_PX, complete_scan, find_array, load_plain
from ptycho.workflow.files import ContractError, StrPath


def read_siemens(path: StrPath) -> dict[str, Any]:
    """Read the Siemens star scan and convert it to the data contract.

    Counts with the zero frequency in the corner become centered amplitudes. Top-left corners around zero become patch
    centers in the smallest object that holds every window. The probe is scaled to the mean counts, not refined.

    Parameters
    ----------
    path : path
        `siemens-star-small.npz.bz2`.

    Returns
    -------
    dict
        The contract's keys; `objectGuess` is one everywhere until a reference is reconstructed.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If the file has another format.
    """
    try:
        arrays = load_plain(io.BytesIO(bz2.decompress(Path(path).read_bytes())), path)
    except OSError as error:
        raise ContractError(f"{path}: {error}; wanted a bzip2-compressed NPZ") from None
    counts, corner, probe = (find_array(arrays, (key,), path)[1][0] for key in ("data", "scan", "probe"))
    n = counts.shape[-1]
    if counts.ndim != 3 or counts.shape[1] != n or corner.shape != (len(counts), 2):
        raise ContractError(f"{path}: 'data' {counts.shape} and 'scan' {corner.shape}; wanted (M, N, N) and (M, 2)")
    corner = corner.astype(np.float64)
    corner += MARGIN_PX - np.floor(corner.min(axis=0))
    return complete_scan(
        diffraction=np.fft.fftshift(np.sqrt(counts), axes=(-2, -1)),
        xcoords=corner[:, 1] + n / 2,
        ycoords=corner[:, 0] + n / 2,
        probe=probe.reshape(-1, n, n),
        metadata={"source": "tike, siemens-star-small", "measured": True},
    )
