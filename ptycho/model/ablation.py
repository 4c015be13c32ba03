"""Ablation of an unrolled model: the same reconstruction with only some of its parts."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ptycho.data.object_files import Reconstruction
from ptycho.model.unet import correct
from ptycho.model.unrolled import UnrolledModel
from ptycho.reconstruction.likelihood import Counts, Likelihood
from ptycho.reconstruction.optimize import minimize
from ptycho.workflow.job import CpuClock

VARIANTS = (
    "steps",
    "prior",
    "no-slow-phase",
    "no-background",
    "no-minibatch-epochs",
    "more-iterations",
    "no-post-iterations",
)
"""What `ablate` makes of a model."""
MORE_ITERATIONS = 8
"""L-BFGS iterations that take about as long as the network."""


def ablate(model: UnrolledModel, counts: Counts, probe) -> Iterator[tuple[str, Reconstruction]]:
    """Reconstruct exposures with parts of a trained unrolled model.

    Parameters
    ----------
    model : UnrolledModel
        As `ptycho.model.unrolled.train_unrolled` returns it.
    counts : Counts
        Exposures.
    probe : (modes, N, N) complex
        Known illumination [sqrt(photon)].

    Yields
    ------
    name : str
        "steps": all L-BFGS iterations on the likelihood alone: no prior, no slow phase, no network. "prior": everything
        but the network. "no-slow-phase", "no-background", "no-minibatch-epochs" (a stage instead): "prior" without one
        of its parts. "more-iterations": "prior" with `MORE_ITERATIONS` in the network's place. "no-post-iterations":
        with the network, but no L-BFGS iterations after it.
    reconstruction : Reconstruction
        On the canvas around the exposures' windows. Its CPU time is that of the whole: what parts share is computed
        once, and counts for each.
    """
    likelihood, clock = Likelihood(counts, probe), CpuClock()

    def result(obj: NDArray, cpu_s: float) -> Reconstruction:
        illumination, origin_px = likelihood.illumination(), likelihood.origin_px
        return Reconstruction(object=obj, illumination=illumination, origin_px=origin_px, cpu_s=cpu_s)

    schedule = model.schedule
    smoothed = likelihood.with_background(schedule.background_fraction)
    total = schedule.iterations * (schedule.stages - 1) + schedule.final_iterations + schedule.post_iterations
    flat = np.full(likelihood.shape, schedule.transmittance, np.complex64)
    yield "steps", result(minimize(smoothed, flat, 0.0, total)[0], clock.seconds)
    without = {
        "no-slow-phase": replace(schedule, phase_iterations=0),
        "no-background": replace(schedule, background_fraction=0.0),
        "no-minibatch-epochs": replace(schedule, minibatch_epochs=0),
    }
    for name, less in without.items():
        clock = CpuClock()
        yield name, result(less.after(likelihood, less.before(likelihood)[-1]), clock.seconds)
    clock = CpuClock()
    ends = schedule.before(likelihood)
    shared_s = clock.seconds
    more = schedule.post_iterations + MORE_ITERATIONS
    parts: dict[str, Callable[[], NDArray]] = {
        "prior": lambda: schedule.after(likelihood, ends[-1]),
        "more-iterations": lambda: minimize(smoothed, ends[-1], schedule.tv_weight, more)[0],
        "no-post-iterations": lambda: correct(model.network, ends[-1], schedule.features(likelihood, ends)),
    }
    for name, make in parts.items():
        clock = CpuClock()
        yield name, result(make(), shared_s + clock.seconds)
