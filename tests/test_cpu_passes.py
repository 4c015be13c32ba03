"""The CPU's passes, a few exposures at a time and between FFTs in kernels, give what the plain lines give."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy import fft

from ptycho import reconstruction
from ptycho.reconstruction import cpu_passes, devices
from ptycho.reconstruction.cpu_passes import CpuPasses
from ptycho.reconstruction.devices import CPU, choose_device
from ptycho.reconstruction.likelihood import Likelihood
from ptycho.reconstruction.passes import NumpyPasses, Passes
from ptycho.workflow import job
from tests.test_detector_likelihood import counts_of
from tests.test_gradient_descent import SHAPE, complex_noise, probe_of
from tests.test_gradient_descent import counts_of as perfect_counts

OBJECT = (0.8 + 0.1 * complex_noise(SHAPE, 3)).astype(np.complex64)
LINES = {"any namespace": Passes(np, fft), "NumPy": NumpyPasses()}


def relative(array, expected):
    return np.linalg.norm(array - expected) / np.linalg.norm(expected)


def likelihood_of(passes, modes=2, counts=None):
    return Likelihood(counts or counts_of(), probe_of(modes), device=replace(CPU, passes=passes))


def noisy_frames():
    """A perfect detector's counts; most are zero."""
    return np.random.default_rng(2).poisson(0.2, (5, *probe_of(1).shape[1:])).astype(float)


@pytest.fixture
def no_numba(monkeypatch):
    monkeypatch.delitem(sys.modules, "ptycho.reconstruction.cpu_kernels", raising=False)
    monkeypatch.delattr(reconstruction, "cpu_kernels", raising=False)
    monkeypatch.setitem(sys.modules, "numba", None)


@pytest.mark.parametrize("lines", LINES.values(), ids=LINES)
@pytest.mark.parametrize("modes", [1, 3])
@pytest.mark.parametrize("counts", [counts_of(), perfect_counts(noisy_frames())], ids=["masked", "perfect"])
def test_value_and_gradient_are_those_of_the_plain_lines(lines, modes, counts):
    plain, quick = (likelihood_of(passes, modes, counts).with_background(0.1) for passes in (lines, CpuPasses()))
    assert quick.device.passes._kernels is not None
    (value, gradient), (expected, expected_gradient) = quick.evaluate(OBJECT), plain.evaluate(OBJECT)
    assert value == pytest.approx(expected, rel=1e-6)
    assert gradient.dtype == np.complex64
    assert relative(gradient, expected_gradient) < 1e-6
    np.testing.assert_array_equal(quick.gradient(OBJECT), gradient)


@pytest.mark.parametrize("threads", [1, 2])
def test_half_deviances_of_exposures_add_up_to_the_value(threads):
    likelihood = likelihood_of(CpuPasses(threads))
    value, _ = likelihood.evaluate(OBJECT)
    terms = [
        np.concatenate([passes.per_exposure(OBJECT, *block, likelihood.expected) for block in likelihood._all()])
        for passes in (likelihood.device.passes, *LINES.values())
    ]
    assert terms[0].sum() == pytest.approx(value, rel=1e-12)
    for plain in terms[1:]:
        assert terms[0] == pytest.approx(plain, rel=1e-6)


def test_the_kernels_take_any_layout():
    likelihood = likelihood_of(CpuPasses())
    value, gradient = likelihood.evaluate(OBJECT)
    for obj in (np.asfortranarray(OBJECT), np.repeat(OBJECT, 2, axis=1)[:, ::2]):
        other_value, other_gradient = likelihood.evaluate(obj)
        assert other_value == value
        np.testing.assert_array_equal(other_gradient, gradient)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_no_bit_depends_on_threads_and_pieces(threads, at_once, monkeypatch):
    value, gradient = likelihood_of(CpuPasses()).evaluate(OBJECT)
    probe = probe_of(2)
    monkeypatch.setattr(cpu_passes, "PIECE_PIXELS", at_once * probe.size)
    other_value, other_gradient = likelihood_of(CpuPasses(threads)).evaluate(OBJECT)
    assert other_value == pytest.approx(value, rel=1e-12)
    np.testing.assert_array_equal(other_gradient, gradient)


def test_double_precision_is_left_to_the_plain_lines():
    likelihood = likelihood_of(CpuPasses())
    part = next(likelihood.parts)
    frames, probes = likelihood.block(part)
    block, exact = (frames, probes.astype(np.complex128)), []
    for passes in (CpuPasses(), Passes(np, fft)):
        gradient = np.zeros(SHAPE, np.complex128)
        arguments = OBJECT.astype(np.complex128), block, likelihood.windows(part), likelihood.expected, gradient
        exact.append((passes.accumulate(*arguments), gradient))
    assert exact[0][0] == pytest.approx(exact[1][0], rel=1e-12)
    assert relative(exact[0][1], exact[1][1]) < 1e-12


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (6, 1), (13, 19)])
def test_total_variation_is_that_of_the_plain_lines(shape):
    obj = complex_noise(shape, 7).astype(np.complex64)
    value, gradient = CpuPasses().total_variation(obj, 0.02)
    expected, expected_gradient = LINES["any namespace"].total_variation(obj, 0.02)
    assert value == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(gradient, expected_gradient, atol=2e-6)
    assert gradient.dtype == np.complex64


def test_without_numba_one_line_says_so_and_results_are_the_same(no_numba, log):
    expected, slow = likelihood_of(LINES["NumPy"]).evaluate(OBJECT), likelihood_of(CpuPasses())
    for _ in range(2):
        value, gradient = slow.evaluate(OBJECT)
        assert value == pytest.approx(expected[0], rel=1e-6)
        assert relative(gradient, expected[1]) < 1e-6
    (line,) = log.messages
    assert "computed by NumPy alone" in line
    assert "wanted Numba" in line


@pytest.mark.parametrize(("variable", "threads"), [(None, 1), ("1", 1), ("3", 3), ("4,2", 1), ("0", 1)])
def test_the_cpu_has_the_threads_of_the_job(variable, threads, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if variable is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    assert job.thread_limit() == threads
    monkeypatch.setattr(devices, "visible_gpus", lambda: 0)
    device = choose_device.__wrapped__("auto")
    assert (device is CPU) == (threads == 1)
    assert device.passes.threads == threads
    assert device.is_host
