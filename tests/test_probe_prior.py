"""A probe that few photons determine: held to its optics, where that predicts other photons better."""

from dataclasses import replace

import numpy as np
import pytest

from ptycho.reconstruction import refinement
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.devices import CPU
from ptycho.reconstruction.prior import ProbePrior
from ptycho.reconstruction.probe_variables import ProbeVariables
from ptycho.reconstruction.refinement import RefinementOptions, is_held_to_optics, refine
from ptycho.reconstruction.refiner import mismatch
from tests.strict_device import StrictDevice
from tests.test_refinement import APART, counts_of_middle, probe_with, scanned

FEW = 0.05
"""Part of the photons that are left."""


def recorded(defocus_px=12.0):
    """Two modes, of which the weaker one is no aberration of the other."""
    probe = probe_with(defocus_px)
    return np.stack([probe, 0.3 * np.roll(probe, 3, axis=0)]).astype(np.complex64)


def rough(probe):
    """A probe whose pixels are wrong by a sixth of its amplitude."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=probe.shape) + 1j * rng.normal(size=probe.shape)
    return (probe * (1 + 0.17 / np.sqrt(2) * noise)).astype(np.complex64)


def few_photons():
    """Counts of 16 exposures, 8 px apart, with a twentieth of their photons, and the probe that lights them."""
    frames, truth = scanned()
    few = np.random.default_rng(2).binomial(frames.astype(int), FEW).astype(float)
    counts = Counts(lambda which: few[APART[which]], truth[1, APART], truth[0, APART])
    return counts, probe_with(12.0) * np.sqrt(FEW)


@pytest.mark.parametrize("kind", ["defocus 30 % less", "defocus 30 % more", "other aberrations, phase and place"])
def test_aberrations_phase_and_place_are_no_errors(kind):
    probe = recorded()
    prior, variables = ProbePrior(probe, CPU), ProbeVariables(probe)
    if kind.startswith("defocus"):
        other = recorded(12.0 * (0.7 if "less" in kind else 1.3))
    else:
        z = np.zeros(variables.size)
        z[: variables.aberrations.size] = np.random.default_rng(1).normal(0, 0.2, variables.aberrations.size)
        other = np.roll(variables(z * np.sqrt(variables.power))[0] * np.exp(0.3j), 1, axis=-1)  # 0.2 rad each
    assert np.linalg.norm(prior.error(other)) < 1e-2 * np.linalg.norm(probe)
    assert np.linalg.norm(other - probe) > 0.3 * np.linalg.norm(probe)


def test_errors_of_pixels_are_found_at_other_aberrations():
    prior, probe, noise = ProbePrior(recorded(), CPU), recorded(14.0), rough(recorded()) - recorded()
    expected = np.linalg.norm(noise) ** 2 / (2 * probe.size)
    assert prior.variance(probe + noise) == pytest.approx(expected, rel=0.2)  # some are taken for aberrations


def test_the_recorded_probe_has_no_errors_yet_and_small_ones_do_not_set_it_free():
    prior = ProbePrior(recorded(), CPU)
    assert prior.variance(recorded()) == np.inf
    assert prior.variance(rough(recorded())) < np.inf
    assert prior.variance(recorded()) < 1e-3 * prior.variance(rough(recorded()))


def test_the_gradient_is_that_of_finite_differences():
    prior, probe = ProbePrior(recorded(), CPU), rough(recorded()).astype(complex)
    rng = np.random.default_rng(3)
    directions = [rng.normal(size=probe.shape) + 1j * rng.normal(size=probe.shape), probe - recorded(), 1j * probe]
    value, gradient = prior(probe, 0.5)
    for direction in directions:
        step = 20 * direction / np.linalg.norm(direction)
        change = (prior(probe + step, 0.5)[0] - prior(probe - step, 0.5)[0]) / 2
        assert change == pytest.approx(np.vdot(gradient, step).real, abs=2e-3 * np.linalg.norm(gradient) * 20)
    turned = prior(probe * np.exp(0.1j), 0.5)[0]  # the direction of a phase is free
    assert turned == pytest.approx(value, rel=1e-3)


def test_an_exact_probe_of_few_photons_stays_what_it_is(monkeypatch):
    counts, probe = few_photons()
    options = RefinementOptions(unknown=("probe",), rounds=6)
    held, there = (
        refine(counts, probe, options, seed=0, device=each).parameters.probe for each in (CPU, StrictDevice())
    )
    assert mismatch(there, held) < 1e-4
    monkeypatch.setattr(refinement, "is_held_to_optics", lambda *_: False)
    free = refine(counts, probe, options, seed=0).parameters.probe
    assert mismatch(held[0], probe) < 0.5 * mismatch(free[0], probe)


def test_a_probe_whose_pixels_are_wrong_is_free_where_photons_say_so():
    counts, probe = few_photons()
    assert is_held_to_optics(counts, probe, CPU, seed=0)
    assert is_held_to_optics(counts, probe_with(14.0) * np.sqrt(FEW), CPU, seed=0)
    assert not is_held_to_optics(counts, rough(rough(probe)), CPU, seed=0)


def test_a_probe_is_held_where_nothing_speaks_for_free_pixels():
    counts, probe = few_photons()
    one = counts.select(np.array([5]))
    assert is_held_to_optics(one, probe, CPU, seed=0)


def test_a_dense_scan_and_several_modes_are_not_asked(monkeypatch):
    monkeypatch.setattr(refinement, "is_held_to_optics", lambda *_: pytest.fail("asked"))
    options = RefinementOptions(unknown=("probe",), rounds=1)
    frames, _ = scanned()
    refine(counts_of_middle(frames), probe_with(12.0), options, seed=0)
    counts, probe = few_photons()
    refine(counts, probe, replace(options, modes=2), seed=0)
