"""The mean pattern as the prediction of every exposure: what a reconstruction must beat to have learned anything."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ptycho.data.scan import Scan
from ptycho.physics.forward import blocks
from ptycho.physics.noise import blockwise_deviance


def mean_pattern(scan: Scan, exposures: NDArray[np.integer], block_size: int = 64) -> NDArray[np.float64]:
    """Average the counts of some exposures, without the background and at a flux of 1.

    Parameters
    ----------
    scan : Scan
    exposures : (m,) int
        Indices of exposures.
    block_size : int
        Exposures per block; one is in memory at a time.

    Returns
    -------
    (N, N) float64
        Mean counts [photon], at least 0; what bad pixels hold means nothing.
    """
    total, scale = np.zeros((scan.n_pixels, scan.n_pixels)), scan.detector.exposure_scale
    for block in blocks(len(exposures), block_size):
        total += np.sum(np.square(scan.diffraction[exposures[block]], dtype=np.float64), axis=0)
    background = 0.0 if scan.detector.background is None else scan.detector.background
    flux = len(exposures) if scale is None else float(scale[exposures].sum())
    return np.maximum(total - len(exposures) * background, 0) / max(flux, np.finfo(float).tiny)


def mean_pattern_deviance(
    scan: Scan, known: NDArray[np.integer], predicted: NDArray[np.integer], block_size: int = 64
) -> float:
    """Poisson deviance per valid pixel of exposures that the mean pattern of others predicts.

    An object that predicts them no better is of no use: orientation, positions, their unit, or the probe are wrong.

    Parameters
    ----------
    scan : Scan
    known, predicted : (m,), (k,) int
        Exposures that the mean pattern is made of, and those that it predicts.
    block_size : int
        Exposures per block.

    Raises
    ------
    ValueError
        If there are no exposures or no valid pixels to predict.
    """
    pattern, detector = mean_pattern(scan, known, block_size), scan.detector

    def parts() -> Iterator[tuple[NDArray[np.float64], NDArray[np.floating]]]:
        for block in blocks(len(predicted), block_size):
            indices = predicted[block]
            counts = np.square(scan.diffraction[indices], dtype=np.float64)
            mean = detector.expected_counts(np.broadcast_to(pattern, counts.shape), indices)
            yield detector.valid_values(counts), detector.valid_values(mean)

    return blockwise_deviance(parts())
