"""L-BFGS on any array namespace: all vectors stay on the device, and only numbers are exchanged with the host.

The direction is that of the two-loop recursion (Nocedal, Math. Comp. 35, 773, 1980), in the compact form of Byrd,
Nocedal and Schnabel (Math. Program. 63, 129, 1994): all products with steps and gradient changes are one product of a
matrix and a vector, and what is left to solve is as small as the memory. Without rounding errors, the iterations are
those of SciPy's L-BFGS-B without bounds.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ptycho.reconstruction.devices import CPU, Device
from ptycho.reconstruction.line_search import Sample, search_line
from ptycho.reconstruction.passes import Array

Evaluate = Callable[[Array], tuple[float, Array]]


@dataclass(frozen=True)
class Minimum:
    """Where the search ended; the names are those of `scipy.optimize.OptimizeResult`."""

    x: Array
    """(size,) float64."""
    fun: float
    """Value there."""
    nit: int
    """Iterations."""
    nfev: int
    """Evaluations."""


@dataclass(frozen=True)
class _Point(Sample):
    """A trial of a line search."""

    x: Array
    gradient: Array


class Pairs:
    """The last steps s and gradient changes y, their products with each other, and with the last gradient."""

    def __init__(self, memory: int, size: int, device: Device):
        self.device, self.memory = device, memory
        self.basis = device.xp.zeros((2 * memory, size))  # rows: steps, then changes
        self.products = np.zeros((2 * memory, memory))  # of all rows with the changes
        self.projected = np.zeros(2 * memory)  # products of all rows with the last gradient
        self.order: list[int] = []  # rows in use, oldest first

    def add(self, step: Array, before: Array, after: Array) -> None:
        """Add a step and the gradients at its ends in place of the oldest one.

        One along which the function is not convex is left out. Products with the change are differences of those with
        the gradients, so that all rows are read once.
        """
        change = after - before
        curvature, square = (float(self.device.xp.dot(change, other)) for other in (step, change))
        convex = curvature > np.finfo(np.float64).eps * square
        slot = len(self.order) if len(self.order) < self.memory else self.order[0]
        if convex:
            self.basis[slot], self.basis[self.memory + slot] = step, change
        last, self.projected = self.projected, self.device.to_host(self.device.passes.project(self.basis, after))
        if convex:
            self.products[:, slot] = self.projected - last
            self.products[slot, slot], self.products[self.memory + slot, slot] = curvature, square
            self.products[self.memory + slot] = self.products[self.memory :, slot]
            self.order = [*(row for row in self.order if row != slot), slot]

    def direction(self, gradient: Array) -> Array:
        """Return -H g, with the inverse Hessian H that the pairs give, of the gradient after the last step."""
        if not self.order:
            return -gradient
        steps = np.array(self.order)
        changes = steps + self.memory
        upper = np.triu(self.products[np.ix_(steps, steps)])
        squares = self.products[np.ix_(changes, steps)]
        scale = upper[-1, -1] / squares[-1, -1]
        solved = np.linalg.solve(upper, self.projected[steps])
        inner = np.diag(upper) * solved + scale * (squares @ solved - self.projected[changes])
        weights = np.zeros(2 * self.memory)
        weights[steps], weights[changes] = np.linalg.solve(upper.T, inner), -scale * solved
        return -(scale * gradient + self.device.passes.combine(self.device.to_device(weights), self.basis))


def minimize_lbfgs(
    evaluate: Evaluate, start: Array, *, iterations: int, memory: int, ftol: float, device: Device = CPU
) -> Minimum:
    """Minimize a function by L-BFGS.

    Parameters
    ----------
    evaluate : callable
        Takes (size,) float64 of the device, returns value and (size,) float64 gradient.
    start : (size,) float64
        Where to start; the first trial step has at most length 1.
    iterations : int
        Largest number of iterations; no iteration begins after twice as many evaluations.
    memory : int
        Pairs of steps and gradient changes that are kept.
    ftol : float
        Stop when an iteration lowers the value by less than this fraction of it, or of 1 if that is larger.
    device : Device
        Where `start` is.
    """
    dot, evaluations = device.xp.dot, 0

    def point_at(x: Array, step: float, direction: Array | None) -> _Point:
        nonlocal evaluations
        evaluations += 1
        value, gradient = evaluate(x)
        slope = 0.0 if direction is None else float(dot(gradient, direction))
        return _Point(step, value, slope, x, gradient)

    point, pairs, count = point_at(start, 0.0, None), Pairs(memory, len(start), device), 0
    while count < iterations and evaluations <= 2 * iterations:
        direction = pairs.direction(point.gradient)
        origin = _Point(0.0, point.value, float(dot(point.gradient, direction)), point.x, point.gradient)
        if not origin.slope < 0:
            break

        def trial(step: float, origin: _Point = origin, direction: Array = direction) -> _Point:
            return point_at(origin.x + step * direction, step, direction)

        first = 1.0 if count else min(1.0, 1 / float(np.sqrt(-origin.slope)))
        found = search_line(trial, origin, first)
        if found is None:  # as SciPy's: forget the pairs, then give up
            point = origin
            if not pairs.order:
                break
            pairs = Pairs(memory, len(start), device)
            continue
        point, count = found, count + 1
        pairs.add(point.x - origin.x, origin.gradient, point.gradient)
        if origin.value - point.value <= ftol * max(abs(origin.value), abs(point.value), 1.0):
            break
    return Minimum(point.x, point.value, count, evaluations)
