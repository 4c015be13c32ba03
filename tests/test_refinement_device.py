"""A refinement on a pretended GPU: it finds what it finds on the CPU, and no array moves unnoticed."""

import numpy as np
import pytest

from ptycho.physics.displacement import rms_px
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.devices import CPU
from ptycho.reconstruction.refinement import RefinementOptions, refine
from ptycho.reconstruction.refiner import mismatch
from tests.strict_device import StrictDevice
from tests.test_refinement import MIDDLE, probe_with, scanned


def test_a_device_refines_the_same():
    """All steps, search and relocation included, of a scan that is told wrong in everything."""
    frames, truth = scanned()
    wrong = (truth + np.random.default_rng(1).normal(0, 1.0, truth.shape))[:, MIDDLE]
    wrong[:, 3] += 5, 3
    counts = Counts(lambda which: frames[MIDDLE[which]], wrong[1], wrong[0])
    options = RefinementOptions(unknown=("positions", "probe", "flux", "background"), search_px=6.0, rounds=4)
    here, there = (
        refine(counts, probe_with(14.0), options, seed=0, device=device) for device in (CPU, StrictDevice(block_size=8))
    )
    assert there.history["deviance"].iloc[-1] == pytest.approx(here.history["deviance"].iloc[-1], rel=0.01)
    assert {"probe", "search", "newton", "relocation", "round"} == set(there.history["step"])
    found, expected = there.parameters, here.parameters  # rounding errors lead a search elsewhere on the way
    difference = found.shifts - expected.shifts
    assert rms_px(difference - difference.mean(1, keepdims=True)) < 0.05
    assert mismatch(found.probe, expected.probe) < 1e-4
    assert found.flux == pytest.approx(expected.flux, rel=1e-2)
