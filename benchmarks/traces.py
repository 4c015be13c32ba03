"""Held-out deviance of a reconstruction while it runs, against the time that the method alone takes."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ptycho.data.object_files import Reconstruction, paste
from ptycho.data.scan import Scan
from ptycho.physics.forward import illumination, predict_intensity, window_start
from ptycho.reconstruction.exposures import Exposures
from ptycho.reconstruction.likelihood import Likelihood


class Enough(Exception):
    """A trace needs no more objects."""


def cpu_clock() -> float:
    """CPU time of this process, all its threads [s]."""
    return time.process_time()


def gpu_clock() -> float:
    """Wall time when the GPU has finished what both libraries have asked of it [s]."""
    import cupy
    import torch

    torch.cuda.synchronize()
    cupy.cuda.Device().synchronize()
    return time.perf_counter()


@dataclass(frozen=True)
class Point:
    """An object on the way that predicts the holdout exposures better than all before."""

    seconds: float
    """Time that the method had taken [s]."""
    deviance: float
    """Poisson deviance of the holdout exposures per valid pixel."""
    object: Any
    """(H, W) complex64."""
    origin_px: tuple[int, int]
    """Row and column of its first pixel."""


@dataclass
class Trace:
    """What a method passes on the way; its clock stands still while the deviance is computed."""

    scan: Scan
    """Where the exposures come from; its probe is known."""
    used: np.ndarray
    """(m,) int64 exposures that the method reconstructs from."""
    holdout: Exposures
    """Exposures that no method uses."""
    clock: Callable[[], float] = cpu_clock
    """Returns a time [s]."""
    patience: float = np.inf
    """Objects without a lower deviance after which `Enough` is raised."""
    most: float = np.inf
    """Objects after which it is raised in any case."""
    seconds: list[float] = field(default_factory=list)
    """Time of every object [s]."""
    deviances: list[float] = field(default_factory=list)
    """Its deviance."""
    points: list[Point] = field(default_factory=list)
    """Those that were better than all before."""
    total_s: float = 0.0
    """Time that the method has taken [s]."""

    def run(self, task: Callable[[], Reconstruction]) -> "Trace":
        """Run a method; an object that it returns is the last one."""
        self._start = self.clock()
        with suppress(Enough):
            result = task()
            self.see(result.object, result.origin_px)
        return self

    def see(self, obj: Any, origin_px: tuple[int, int]) -> None:
        """Note an object, (H, W) complex64 of the host."""
        self.total_s += self.clock() - self._start
        deviance = self.deviance(obj, origin_px)
        if not self.points or deviance < self.points[-1].deviance:
            self.points.append(Point(self.total_s, deviance, obj.copy(), origin_px))
            self._best = len(self.seconds)
        self.seconds.append(self.total_s)
        self.deviances.append(deviance)
        number = len(self.seconds)
        if number >= self.most or number - 1 - self._best >= self.patience:
            raise Enough
        self._start = self.clock()

    def deviance(self, obj: Any, origin_px: tuple[int, int]) -> float:
        """Poisson deviance of the holdout exposures; beyond the object there is its mean amplitude."""
        x, y, n = self.holdout.xcoords, self.holdout.ycoords, self.scan.n_pixels
        first = [int(window_start(axis, n).min()) for axis in (y, x)]
        shape = tuple(int(np.ptp(window_start(axis, n))) + n for axis in (y, x))
        plane = paste(obj, tuple(np.subtract(origin_px, first)), shape, fill=np.abs(obj).mean())
        return self.holdout.deviance(predict_intensity(plane, self.scan.probe, x, y, tuple(first)))

    @property
    def best(self) -> Point:
        """The object with the lowest deviance."""
        return self.points[-1]

    def first_below(self, deviance: float) -> Point | None:
        """Return the first object whose deviance is at most this; None if there is none."""
        return next((point for point in self.points if point.deviance <= deviance), None)

    def reconstruction(self, point: Point) -> Reconstruction:
        """Return an object as methods return it."""
        positions = self.scan.xcoords[self.used], self.scan.ycoords[self.used]
        lit = illumination(self.scan.probe, *positions, point.object.shape, point.origin_px)
        return Reconstruction(object=point.object, illumination=lit, origin_px=point.origin_px)


@contextmanager
def watched_likelihood(trace: Trace) -> Iterator[None]:
    """Show a trace every object at which a likelihood is about to be evaluated."""
    evaluate = Likelihood.evaluate

    def show_and_evaluate(likelihood, obj):
        trace.see(likelihood.device.to_host(obj), likelihood.origin_px)
        return evaluate(likelihood, obj)

    Likelihood.evaluate = show_and_evaluate
    try:
        yield
    finally:
        Likelihood.evaluate = evaluate
