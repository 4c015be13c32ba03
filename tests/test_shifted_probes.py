"""Passes over probes that are shifted for every exposure: kernels give what the plain lines give, and what is kept."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import fft

from ptycho.reconstruction.cpu_passes import CpuPasses
from ptycho.reconstruction.devices import CPU
from ptycho.reconstruction.gradient_sums import ramps_of
from ptycho.reconstruction.passes import NumpyPasses, Passes
from tests.test_joint_likelihood import M, N, likelihood_of, parameters_of, probe_of

SHIFTS, FLUX = np.random.default_rng(5).uniform(-0.8, 0.8, (2, M)), np.linspace(0.5, 1.5, M).astype(np.float32)
RAMPS = ramps_of(SHIFTS, N, FLUX, np.complex64, CPU)


def relative(array, expected):
    return np.linalg.norm(array - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("lines", [Passes(np, fft), NumpyPasses()], ids=["any namespace", "NumPy"])
@pytest.mark.parametrize("modes", [1, 3])
def test_kernels_give_what_plain_lines_give(lines, modes):
    kernels, spectrum = CpuPasses(), fft.fft2(probe_of(modes))
    assert kernels._kernels is not None
    probes, expected = (passes.shifted(spectrum, RAMPS) for passes in (kernels, lines))
    assert relative(probes, expected) < 1e-6
    likelihood = likelihood_of(modes)
    (_, (frames,)), windows = next(likelihood._blocks()), likelihood.windows(slice(4))
    obj, block, found = parameters_of(likelihood).object, (frames[:4], probes[:4]), []
    for passes in (kernels, lines):
        canvas, slopes = np.zeros_like(obj), np.zeros((N, N))
        value, gradients = passes.probe_gradients(obj, block, windows, likelihood.expected, canvas, slopes)
        found.append((value, canvas, gradients, slopes))
    for array, wanted in zip(*found, strict=True):
        assert relative(array, wanted) < 1e-6
    some, found = replace(RAMPS, ramps=RAMPS.ramps[:, :4], roots=RAMPS.roots[:4]), []
    for passes in (kernels, lines):
        total = np.zeros(spectrum.shape, np.complex128)
        found.append((passes.shift_slopes(gradients.copy(), spectrum, some, total), total))
    for array, wanted in zip(*found, strict=True):
        assert relative(array, wanted) < 1e-5


def test_probes_are_kept_while_windows_move_by_whole_pixels(monkeypatch):
    likelihood, calls = likelihood_of(), []
    shifted = CpuPasses.shifted
    monkeypatch.setattr(CpuPasses, "shifted", lambda *args: calls.append(None) or shifted(*args))
    here = replace(parameters_of(likelihood), shifts=SHIFTS)
    likelihood.anchored(SHIFTS).per_exposure(here)
    first = len(calls)
    for moved in (SHIFTS + np.array([[2], [-1]]), SHIFTS + 1):
        there = replace(here, shifts=moved)
        found = likelihood.anchored(moved).per_exposure(there)
        assert len(calls) == first
        fresh = likelihood_of().anchored(moved).per_exposure(there)
        calls[first:] = []
        np.testing.assert_allclose(found, fresh, rtol=1e-6)
    for other in (replace(here, probe=here.probe * 2), replace(here, flux=here.flux * 2)):
        before = len(calls)
        found = likelihood.anchored(SHIFTS).per_exposure(other)
        assert len(calls) == before + first
        np.testing.assert_array_equal(found, likelihood_of().anchored(SHIFTS).per_exposure(other))
