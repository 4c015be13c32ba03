"""The reference of a measured study: object and probe by LSQML, then the object alone by maximum likelihood.

Where positions are refined, too, a joint refinement comes before.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ptycho.data.object_files import Reconstruction
from ptycho.data.refined_positions import RefinedPositions
from ptycho.data.scan import Scan
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.devices import CPU, Device
from ptycho.reconstruction.likelihood import Likelihood
from ptycho.reconstruction.lsqml import Exposures, LSQMLOptions, LSQMLRun, reconstruct
from ptycho.reconstruction.optimize import minimize
from ptycho.reconstruction.refinement import RefinementOptions, refine
from ptycho.workflow.job import CpuClock

ITERATIONS = 60
"""L-BFGS iterations on the object: LSQML alone is far from the maximum of the likelihood after as many epochs."""


def lsqml_options(*, epochs: int, batch_size: int, device: str = "auto") -> LSQMLOptions:
    """Return the options of LSQML for a reference: it makes all epochs, in batches from all over the scan."""
    return LSQMLOptions(
        epochs=epochs,
        batch_size=batch_size,
        device=device,
        early_stopping_patience=epochs,
        compact_batching_below_overlap=0.0,
    )


def reconstruct_reference(
    scan: Scan, probe: NDArray[np.complexfloating], options: LSQMLOptions, seed: int
) -> Reconstruction:
    """Reconstruct object and probe from all exposures of a scan.

    LSQML refines both, with stabilized roots of the counts. With the probe that it finds, the object is then fitted to
    the Poisson likelihood of the same counts, without a prior.

    Parameters
    ----------
    scan : Scan
        All of its exposures are read into memory.
    probe : (modes, N, N) complex
        Illumination to start from, in incoherent modes [sqrt(photon)].
    options : LSQMLOptions
        Epochs and batches; there are no validation exposures.
    seed : int
        Seed of the order of the batches.

    Returns
    -------
    Reconstruction
        `refined` has the probe, `history` epoch and loss of LSQML, `chosen` the `iterations` of L-BFGS.
    """
    everything, clock = np.arange(len(scan)), CpuClock()
    run = LSQMLRun(seed=seed, refine_probe=True, stabilize=True)
    start = reconstruct(Exposures.of(scan, everything), None, probe, options, run)
    return replace(maximize_likelihood(Counts.of(scan, everything), start), cpu_s=clock.seconds)


def refine_reference(
    scan: Scan,
    probe: NDArray[np.complexfloating],
    options: LSQMLOptions,
    refinement: RefinementOptions,
    seed: int,
    device: Device = CPU,
) -> tuple[Reconstruction, pd.DataFrame]:
    """Refine probe and positions of all exposures together, then reconstruct as `reconstruct_reference` does.

    Parameters
    ----------
    scan : Scan
        With recorded positions; all of its exposures are read into memory.
    probe : (modes, N, N) complex
        Illumination to start from, in incoherent modes [sqrt(photon)].
    options : LSQMLOptions
        Epochs and batches.
    refinement : RefinementOptions
        `unknown` has the positions.
    seed : int
        Seed of the search for large errors of positions, and of the order of the batches.
    device : Device
        Where the refinement is computed; where LSQML is, its options say.

    Returns
    -------
    reconstruction : Reconstruction
        `refined` has probe and positions; these without the whole pixels by which all have moved.
    history : DataFrame
        Steps of the refinement, see `ptycho.reconstruction.refinement.JointRefinement`.
    """
    clock, everything = CpuClock(), np.arange(len(scan))
    found = refine(Counts.of(scan, everything), probe, refinement, seed=seed, device=device)
    shifts = found.parameters.shifts
    own = shifts - np.rint(shifts.mean(1, keepdims=True))
    positions = RefinedPositions.of(everything, scan.xcoords, scan.ycoords, own)
    moved = replace(scan, xcoords=positions.xcoords, ycoords=positions.ycoords)
    result = reconstruct_reference(moved, np.asarray(found.parameters.probe), options, seed)
    assert result.refined is not None
    return replace(result, refined=replace(result.refined, positions=positions), cpu_s=clock.seconds), found.history


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
