"""How far what methods took for known is from the truth, and an object without the affine error of its positions."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ptycho.data.object_files import Reconstruction
from ptycho.data.scan import Scan
from ptycho.physics.displacement import affine_residual, displaced, rms_px
from ptycho.physics.forward import as_modes


def knowledge_errors(known: Scan, scan: Scan, exposures: NDArray[np.int64]) -> dict[str, float]:
    """Compare positions and probe with those of a scan.

    Parameters
    ----------
    known : Scan
        With what was taken for known.
    scan : Scan
        With what is right.
    exposures : (m,) int64
        Exposures that were reconstructed.

    Returns
    -------
    dict
        `position_rms_px`, rms error of the positions after its mean was removed; `position_rms_affine_px`, after an
        affine map was removed; and `probe_error`.
    """
    right, found = (np.stack([each.ycoords, each.xcoords])[:, exposures] for each in (scan, known))
    errors = found - right
    return {
        "position_rms_px": rms_px(errors - errors.mean(1, keepdims=True)),
        "position_rms_affine_px": rms_px(affine_residual(errors, right)[0]),
        "probe_error": probe_error(known.probe, scan.probe),
    }


def probe_error(probe: NDArray[np.complexfloating], truth: NDArray[np.complexfloating]) -> float:
    """Return 1 - |⟨P, Q⟩| of two normalized (modes, N, N) probes, at the shift in whole pixels where it is least.

    A probe that is shifted with all positions gives the same patterns, and so does one whose modes are mixed by a
    unitary matrix. |⟨P, Q⟩| is therefore the largest over such matrices: the sum of the singular values of the scalar
    products ⟨P_k, Q_l⟩ (Schönemann, Psychometrika 31, 1, 1966). Modes that only one of the probes has are compared with
    nothing.
    """
    spectra, of_truth = np.fft.fft2(probe), np.fft.fft2(truth)
    products = np.fft.ifft2(spectra[:, None] * of_truth[None].conj())
    overlap = np.linalg.svd(np.moveaxis(products, (0, 1), (-2, -1)), compute_uv=False).sum(-1).max()
    return max(1 - float(overlap / np.linalg.norm(probe) / np.linalg.norm(truth)), 0.0)


def known_by(result: Reconstruction, scan: Scan) -> Scan | None:
    """Return a scan, as it was told, with what a method has refined by itself; None if it has refined nothing."""
    if result.refined is None:
        return None
    known = scan if result.refined.probe is None else replace(scan, probe=as_modes(result.refined.probe))
    if (positions := result.refined.positions) is None:
        return known
    xcoords, ycoords = positions.among(scan.xcoords, scan.ycoords, scan.path)
    return replace(known, xcoords=xcoords, ycoords=ycoords)


def without_affine_map(result: Reconstruction, known: Scan, scan: Scan, exposures: NDArray[np.int64]) -> Reconstruction:
    """Undo the affine map between known and right positions in an object: it is deformed as they are.

    Parameters
    ----------
    result : Reconstruction
        Made with what was taken for known.
    known, scan, exposures
        As for `knowledge_errors`.
    """
    right, found = (np.stack([each.ycoords, each.xcoords])[:, exposures] for each in (scan, known))
    _, affine = affine_residual(found - right, right)
    center = right.mean(1) - np.array(result.origin_px)
    grid = np.indices(result.object.shape) - center[:, None, None]
    return replace(result, object=displaced(result.object, -np.einsum("ab,bhw->ahw", affine[:, 1:], grid)))
