"""The reference of a measured study: object and probe by LSQML, then the object alone by maximum likelihood."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ptycho.data.object_files import Reconstruction
from ptycho.data.scan import Scan
from ptycho.physics.probes import add_modes
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.likelihood import Likelihood
from ptycho.reconstruction.lsqml import Exposures, LSQMLOptions, LSQMLRun, reconstruct
from ptycho.reconstruction.optimize import minimize
from ptycho.workflow.job import CpuClock

ITERATIONS = 60
"""L-BFGS iterations on the object: LSQML alone is far from the maximum of the likelihood after as many epochs."""


def reconstruct_reference(scan: Scan, options: LSQMLOptions, modes: int, seed: int) -> Reconstruction:
    """Reconstruct object and probe from all exposures of a scan.

    LSQML refines both, with stabilized roots of the counts. With the probe that it finds, the object is then fitted to
    the Poisson likelihood of the same counts, without a prior.

    Parameters
    ----------
    scan : Scan
        All of its exposures are read into memory.
    options : LSQMLOptions
        Epochs and batches; there are no validation exposures.
    modes : int
        Incoherent modes of the probe.
    seed : int
        Seed of the order of the batches.

    Returns
    -------
    Reconstruction
        `refined` has the probe, `history` epoch and loss of LSQML, `chosen` the `iterations` of L-BFGS.
    """
    everything, clock = np.arange(len(scan)), CpuClock()
    run = LSQMLRun(seed=seed, refine_probe=True, stabilize=True)
    start = reconstruct(Exposures.of(scan, everything), None, add_modes(scan.probe, modes), options, run)
    return replace(maximize_likelihood(Counts.of(scan, everything), start), cpu_s=clock.seconds)


def maximize_likelihood(counts: Counts, start: Reconstruction, iterations: int = ITERATIONS) -> Reconstruction:
    """Fit the object of a reconstruction to the Poisson likelihood of counts, with its own probe and without a prior.

    Parameters
    ----------
    counts : Counts
        Photons of the exposures, inside the object of `start`.
    start : Reconstruction
        With a refined probe.
    iterations : int
        Largest number of L-BFGS iterations.

    Returns
    -------
    Reconstruction
        The same with another object, on the box around all windows; `chosen` has the `iterations` made.
    """
    assert start.refined is not None
    assert start.refined.probe is not None
    likelihood = Likelihood(counts, start.refined.probe)
    obj, _, made = minimize(likelihood, _cut(start, likelihood), 0.0, iterations)
    return replace(
        start,
        object=obj,
        illumination=likelihood.illumination(),
        origin_px=likelihood.origin_px,
        chosen={"iterations": made},
    )


def _cut(start: Reconstruction, likelihood: Likelihood) -> NDArray[np.complex64]:
    """Return the part of an object that a likelihood's canvas covers; LSQML has a margin around it."""
    top, left = np.subtract(likelihood.origin_px, start.origin_px)
    height, width = likelihood.shape
    return start.object[top : top + height, left : left + width]
