"""Ablation of an unrolled model: the same reconstruction with parts left out."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ptycho.data.object_files import Reconstruction
from ptycho.model.unet import correct
from ptycho.model.unrolled import UnrolledModel
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.likelihood import Likelihood
from ptycho.reconstruction.optimize import minimize
from ptycho.workflow.job import CpuClock

MORE_ITERATIONS = 8
"""L-BFGS iterations that take about as long as the network."""


def ablate(
    model: UnrolledModel, counts: Counts, probe: NDArray[np.complexfloating]
) -> Iterator[tuple[str, Reconstruction]]:
    """Reconstruct exposures with parts of a trained unrolled model.

    Parameters
    ----------
    model : UnrolledModel
        Trained model, see `ptycho.model.unrolled.train_unrolled`.
    counts : Counts
        Exposures to reconstruct.
    probe : (modes, N, N) complex
        Known illumination [sqrt(photon)].

    Yields
    ------
    name : str
        "steps": all L-BFGS iterations on the likelihood alone: no prior, no slow phase, no network. "prior": all but
        the network. "no-slow-phase", "no-background", "no-minibatch-epochs" (a stage instead): "prior" without one of
        its parts. "more-iterations": "prior" with `MORE_ITERATIONS` in place of the network. "no-post-iterations":
        with the network, but without L-BFGS iterations after it.
    reconstruction : Reconstruction
        Object on the canvas around the exposures' windows. Stages that several reconstructions share are run once; the
        CPU time of each includes them.
    """
    likelihood, clock = Likelihood(counts, probe), CpuClock()

    def result(obj: NDArray[np.complex64], cpu_s: float) -> Reconstruction:
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
    parts: dict[str, Callable[[], NDArray[np.complex64]]] = {
        "prior": lambda: schedule.after(likelihood, ends[-1]),
        "more-iterations": lambda: minimize(smoothed, ends[-1], schedule.tv_weight, more)[0],
        "no-post-iterations": lambda: correct(model.network, ends[-1], schedule.features(likelihood, ends)),
    }
    for name, make in parts.items():
        clock = CpuClock()
        yield name, result(make(), shared_s + clock.seconds)
