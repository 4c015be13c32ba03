"""Sections of `benchmarks/gpu_check.py`: a GPU against the CPU."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from gpu_scans import Scan, scan_of
from gpu_setup import Setup, relative
from scipy import fft

from ptycho.physics.forward import shift_ramps, split_position
from ptycho.reconstruction.devices import CPU
from ptycho.reconstruction.joint_likelihood import JointLikelihood
from ptycho.reconstruction.likelihood import Likelihood
from ptycho.reconstruction.minibatches import minibatch_epochs
from ptycho.reconstruction.optimize import TV_SMOOTHING, minimize
from ptycho.reconstruction.parameters import NAMES, Parameters
from ptycho.reconstruction.passes import Expected, Passes

CASES = (("one mode", 1, False), ("three modes, masked", 3, True))


@dataclass(frozen=True)
class Accurate:
    """Value and gradient with double precision throughout, by the plain lines."""

    likelihood: Likelihood
    """Of the same exposures, on the CPU."""

    def __call__(self, obj) -> tuple[float, Any]:
        """Return half the deviance and its (H, W) complex128 gradient at an object."""
        like, value = self.likelihood, 0.0
        gradient, expected = np.zeros(like.shape, np.complex128), like.expected
        planes = None if expected.planes is None else expected.planes.astype(np.float64)
        exact = Expected(expected.background, planes, expected.valid)
        for part in like.parts:
            block, passes = self._block(part), Passes(np, fft)
            value += passes.accumulate(obj.astype(np.complex128), block, like.windows(part), exact, gradient)
        return value, gradient

    def _block(self, part: slice):
        like, n = self.likelihood, self.likelihood.n_pixels
        rest_y, rest_x = (split_position(axis[part])[1] for axis in (like.counts.ycoords, like.counts.xcoords))
        down, across = (ramp.astype(np.complex128)[:, None] for ramp in shift_ramps(rest_y, rest_x, n))
        probes = fft.ifft2(fft.fft2(like.probe.astype(np.complex128)) * (down * across))
        if (scale := like.counts.detector.exposure_scale) is not None:
            probes *= np.sqrt(scale[part].astype(np.float32)).astype(np.float64)[:, None, None, None]
        return like.block(part)[0].astype(np.float64), probes


def kernels(setup: Setup) -> dict[str, Any]:
    """Fused passes against the plain lines on the same device, and once more: the same bits."""
    found: dict[str, Any] = {}
    host = setup.device.to_host
    for name, modes, masked in CASES:
        scan = scan_of(6, 5, modes=modes, masked=masked)
        fused, plain = (Likelihood(scan.counts, scan.probe, device=each) for each in (setup.device, setup.plain))
        obj = setup.device.to_device(scan.on_canvas(fused) * np.float32(0.9))
        (value, gradient), (again, second), (expected, lines) = (each.evaluate(obj) for each in (fused, fused, plain))
        found[name] = {
            "value": abs(value / expected - 1),
            "gradient": relative(host(gradient), host(lines)),
            "gradient_alone": relative(host(fused.gradient(obj)), host(lines)),
            "illumination": relative(host(fused.illumination()), host(plain.illumination())),
            "repeats": value == again and bool((host(gradient) == host(second)).all()),
        }
        pairs = [each.passes.total_variation(obj, TV_SMOOTHING) for each in (setup.device, setup.plain)]
        found[name]["prior"] = abs(float(pairs[0][0]) / float(pairs[1][0]) - 1)
        found[name]["prior_gradient"] = relative(*(host(pair[1]) for pair in pairs))
    shapes, rng = ((24, 9001), (9001,), (24,)), np.random.default_rng(1)
    rows, vector, weights = (setup.device.to_device(rng.normal(size=shape)) for shape in shapes)
    passes, lines = setup.device.passes, setup.plain.passes
    found["project"] = relative(host(passes.project(rows, vector)), host(lines.project(rows, vector)))
    found["combine"] = relative(host(passes.combine(weights, rows)), host(lines.combine(weights, rows)))
    return found


def evaluation(setup: Setup) -> dict[str, Any]:
    """One evaluation: relative errors on the CPU and on the device against double precision, and their difference.

    At a flat object almost nothing is predicted outside the pupil, where the background alone keeps rounding errors
    from being amplified: with the background that TV-MAP and `unrolled` start with, they are not.
    """
    found = {}
    for name, modes, masked in (("study", 1, False), CASES[1]):
        scan = setup.study if name == "study" else scan_of(8, 6, modes=modes, masked=masked)
        pair = [Likelihood(scan.counts, scan.probe, device=each) for each in (CPU, setup.device)]
        truth = scan.on_canvas(pair[0])
        flat = np.full_like(truth, 0.8)
        cases = ("flat", flat, None), ("flat, as TV-MAP starts", flat, 0.5), ("near the truth", 0.95 * truth, None)
        for at, obj, factor in cases:
            on_cpu, on_gpu = pair if factor is None else [each.with_background(factor) for each in pair]
            found[f"{name}, {at}"] = _errors(setup, on_cpu, on_gpu, obj)
    return found


def joint(setup: Setup) -> dict[str, Any]:
    """Value and gradients in everything that predicts the counts: the device against the CPU."""
    found = {}
    for name, modes, masked in CASES:
        scan, rng = scan_of(6, 5, modes=modes, masked=masked), np.random.default_rng(0)
        here, there = (JointLikelihood(scan.counts, scan.probe, device=each) for each in (CPU, setup.device))
        shifts, flux = rng.uniform(-1, 1, (2, len(scan.counts))), rng.uniform(0.9, 1.1, len(scan.counts))
        obj, background = np.full(here.shape, 0.8, np.complex64), rng.random((here.n_pixels,) * 2, np.float32)
        arrays = {"object": obj, "probe": here.probe, "shifts": shifts, "flux": flux, "background": background}
        parameters = Parameters(**arrays)
        moved = parameters.transferred(setup.device.to_device)
        (value, gradients), (other, others) = here.evaluate(parameters), there.evaluate(moved)
        pairs = {key: (getattr(others, key), getattr(gradients, key)) for key in NAMES}
        for method in ("per_exposure", "shift_information", "illumination"):
            pairs[method] = getattr(there, method)(moved), getattr(here, method)(parameters)
        on_host = [key for key in pairs if key in ("shifts", "flux", "per_exposure", "shift_information")]
        pairs |= {key: (setup.device.to_host(far), near) for key, (far, near) in pairs.items() if key not in on_host}
        found[name] = {key: relative(far, near) for key, (far, near) in pairs.items()}
        found[name]["value"] = abs(other / value - 1)
    return found


def _errors(setup: Setup, on_cpu: Likelihood, on_gpu: Likelihood, obj) -> dict[str, float]:
    (true_value, truth), (expected, lines) = Accurate(on_cpu)(obj), on_cpu(obj)
    value, gradient = on_gpu(setup.device.to_device(obj))
    gradient = setup.device.to_host(gradient)
    return {
        "value": abs(value / expected - 1),
        "gradient": relative(gradient, lines),
        "value_error_cpu": abs(expected / true_value - 1),
        "value_error_device": abs(value / true_value - 1),
        "gradient_error_cpu": relative(lines, truth),
        "gradient_error_device": relative(gradient, truth),
    }


def search(setup: Setup) -> dict[str, Any]:
    """Objectives that L-BFGS reaches from a flat object: SciPy's on the CPU, and the device's."""
    found = {}
    for device in (CPU, setup.device):
        likelihood = Likelihood(setup.study.counts, setup.study.probe, device=device).with_background(0.03)
        flat, iterations = device.xp.full(likelihood.shape, 0.8, np.complex64), 10 if setup.small else 200
        (_, objective, made), seconds = setup.once(lambda: minimize(likelihood, flat, 32.0, iterations))  # noqa: B023
        found[device.name] = {"objective": objective, "iterations": made, "seconds": seconds}
    return found


def minibatches(setup: Setup) -> dict[str, Any]:
    """Two mini-batch epochs: the device, many steps at once, against the CPU, one after another."""
    return {name: _epochs(setup, scan) for name, scan in (("study", setup.study), ("narrow", scan_of(3, 60)))}


def _epochs(setup: Setup, scan: Scan) -> dict[str, Any]:
    objects = []
    for device in (CPU, setup.device, setup.device):
        likelihood = Likelihood(scan.counts, scan.probe, device=device)
        flat = device.xp.full(likelihood.shape, 0.8, np.complex64)
        objects.append(device.to_host(minibatch_epochs(likelihood, flat, 2)))
    return {"difference": relative(objects[1], objects[0]), "repeats": bool((objects[1] == objects[2]).all())}
