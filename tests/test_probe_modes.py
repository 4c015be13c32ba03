"""Incoherent modes of simulated probes, and those that a refinement adds."""

from dataclasses import replace

import numpy as np
import pytest

from ptycho.physics.forward import predict_intensity
from ptycho.physics.probes import incoherent_modes, simulate_probe, with_modes
from ptycho.physics.samples import simulate_object
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.refinement import RefinementOptions, refine
from ptycho.scoring.knowledge import probe_error
from tests.test_refinement import DOSE, probe_with, scanned

OPTICS = {"n_pixels": 64, "pupil_px": 13.0, "stop": 0.3, "defocus_px": 26.0, "astigmatism_rad": 0.6, "coma_rad": 0.4}


def powers(probe):
    return np.sum(np.abs(probe.astype(complex)) ** 2, axis=(1, 2))


def test_incoherent_modes_are_orthogonal_have_the_photons_asked_for_and_begin_with_the_beam():
    beam = simulate_probe("zone_plate", **OPTICS)
    modes = simulate_probe("zone_plate", **OPTICS, modes=[0.7, 0.2, 0.1])
    products = np.abs(np.einsum("aij,bij->ab", modes, modes.conj(), dtype=complex))
    assert products == pytest.approx(np.diag([0.7, 0.2, 0.1]), abs=1e-6)
    assert modes[0] == pytest.approx(np.sqrt(0.7) * beam, abs=1e-6)
    assert beam.shape == (64, 64)
    with pytest.raises(ValueError, match="8 probe modes; wanted 1 to 7"):
        incoherent_modes(beam, [1 / 8] * 8)


def test_modes_of_a_gaussian_beam_are_those_of_hermite_and_gauss():
    beam = simulate_probe("gaussian", n_pixels=64, fwhm_px=12, modes=[0.5, 0.5])
    x = np.arange(64) - 32
    wanted = beam[0] * x[None, :]
    assert np.abs(np.vdot(beam[1], wanted)) == pytest.approx(np.linalg.norm(beam[1]) * np.linalg.norm(wanted), rel=1e-5)


def test_new_modes_are_weak_and_orthogonal_and_the_photons_stay():
    probe = 30 * simulate_probe("zone_plate", **OPTICS, modes=[0.8, 0.2])
    more = with_modes(probe, 4)
    assert powers(more) / powers(probe).sum() == pytest.approx([0.72, 0.18, 0.05, 0.05], rel=1e-4)
    products = np.abs(np.einsum("aij,bij->ab", more, more.conj(), dtype=complex)) / powers(probe).sum()
    assert products - np.diag(np.diag(products)) == pytest.approx(0, abs=1e-6)
    assert with_modes(probe, 1) == pytest.approx(probe)


def test_the_error_of_a_probe_knows_no_mixture_of_its_modes():
    probe = simulate_probe("zone_plate", **OPTICS, modes=[0.8, 0.2])
    mixed = np.stack([probe[0] + probe[1], probe[0] - probe[1]]) / np.sqrt(2)
    assert probe_error(mixed, probe) == pytest.approx(0, abs=1e-6)
    assert probe_error(np.roll(mixed, 3, axis=1), probe) == pytest.approx(0, abs=1e-6)
    assert probe_error(probe[:1], probe) == pytest.approx(1 - np.sqrt(0.8), abs=1e-6)


@pytest.mark.slow
def test_a_refinement_regains_a_missing_mode():
    _, (rows, columns) = scanned()
    modes = incoherent_modes(probe_with(12.0), [0.8, 0.2]) * np.float32(np.sqrt(DOSE))
    obj = simulate_object("dead_leaves", (96, 96), np.random.default_rng(5))
    frames = np.random.default_rng(1).poisson(predict_intensity(obj, modes, columns, rows)).astype(float)
    counts, told = Counts(lambda which: frames[which], columns, rows), modes[:1] / np.float32(np.sqrt(0.8))
    options = RefinementOptions(unknown=("probe",), rounds=3)
    alone = refine(counts, told, options, seed=0).parameters.probe
    found = refine(counts, told, replace(options, modes=2), seed=0).parameters.probe
    assert (len(alone), len(found)) == (1, 2)
    assert powers(found).sum() == pytest.approx(powers(modes).sum(), rel=1e-4)
    assert probe_error(found, modes) < 0.25 * probe_error(alone, modes)
