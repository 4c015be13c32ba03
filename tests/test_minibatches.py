"""Mini-batch epochs: every exposure once, and the same object however many steps are taken at once."""

from dataclasses import replace

import numpy as np
import pytest

from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.devices import CPU
from ptycho.reconstruction.likelihood import Likelihood
from ptycho.reconstruction.minibatches import independent_groups, minibatch_epochs, steps
from tests.conftest import write_scan
from tests.strict_device import StrictDevice


def counts_of(scan, block_size=20):
    return replace(Counts.of(scan, np.arange(len(scan))), block_size=block_size)


@pytest.fixture(scope="module")
def long_scan(tmp_path_factory):
    """3 × 40 exposures: blocks of neighbors that are far apart from others."""
    return write_scan(tmp_path_factory.mktemp("scan") / "scan.npz", n=16, columns=3, rows=40, modes=2)


def test_an_epoch_sees_every_exposure_once(scan):
    likelihood, rng = Likelihood(counts_of(scan), scan.probe), np.random.default_rng(0)
    noise = 0.1 * np.random.default_rng(1).normal(size=(2, *likelihood.shape))
    obj = (0.8 + noise[0] + 1j * noise[1]).astype(np.complex64)
    gradient, photons, count = np.zeros(likelihood.shape, np.complex64), np.zeros(likelihood.shape, np.float32), 0
    for block, windows, batches in steps(likelihood, 8, rng):
        CPU.passes.accumulate_gradient(obj, block, windows, likelihood.expected, gradient)
        CPU.passes.add(photons, (np.abs(block[1]) ** 2).sum(1), windows)
        count += len(batches.boxes)
    assert count == 2 * 3 + 2  # blocks of 20, 20 and 9
    whole, incident = likelihood(obj)[1], likelihood.illumination()
    np.testing.assert_allclose(gradient, whole, atol=1e-5 * np.abs(whole).max())
    np.testing.assert_allclose(photons, incident, rtol=1e-5, atol=1e-6 * incident.max())


def test_epochs_lower_the_deviance_and_repeat(scan):
    likelihood = Likelihood(counts_of(scan), scan.probe)
    flat = np.full(likelihood.shape, 0.8, np.complex64)
    obj = minibatch_epochs(likelihood, flat, 2)
    assert likelihood(obj)[0] < 0.5 * likelihood(flat)[0]
    np.testing.assert_array_equal(minibatch_epochs(likelihood, flat, 2), obj)


def test_a_step_is_the_gradient_over_twice_the_damped_illumination(scan):
    likelihood = Likelihood(counts_of(scan).select(np.arange(5)), scan.probe)
    flat = np.full(likelihood.shape, 0.8, np.complex64)
    ((block, windows, batches),) = steps(likelihood, 8, np.random.default_rng(0))
    obj, incident = flat.copy(), likelihood.illumination()
    CPU.passes.descend(obj, block, windows, likelihood.expected, batches, 0.1)
    expected = flat - likelihood(flat)[1] / (2 * (incident + 0.1 * incident.max()))
    np.testing.assert_allclose(obj, expected, atol=1e-5)


def test_many_steps_at_once_lead_where_steps_one_by_one_lead(long_scan):
    counts, objects = counts_of(long_scan, 9), []
    for device in (CPU, StrictDevice(block_size=9), StrictDevice(block_size=45)):
        likelihood = Likelihood(counts, long_scan.probe, device=device)
        flat = device.xp.full(likelihood.shape, 0.8, np.complex64)
        objects.append(device.to_host(minibatch_epochs(likelihood, flat, 2)))
    at_once = [len(batches.boxes) for *_, batches in steps(likelihood, 8, np.random.default_rng(0))]
    assert max(at_once) > 1
    assert sum(at_once) == 2 * 13 + 1  # 13 blocks of 9, one of 3
    np.testing.assert_array_equal(objects[2], objects[1])
    np.testing.assert_allclose(objects[2], objects[0], atol=1e-4)


def test_groups_do_not_overlap_and_keep_the_order_of_those_that_do():
    rng = np.random.default_rng(0)
    boxes = np.column_stack([rng.integers(0, 100, (60, 2)), rng.integers(5, 25, (60, 2))])
    groups = independent_groups(boxes, 4)
    assert sorted(number for group in groups for number in group) == list(range(60))
    assert 1 < max(map(len, groups)) <= 4
    turn = {number: position for position, group in enumerate(groups) for number in group}
    painted = [np.zeros((130, 130), bool) for _ in boxes]
    for canvas, (top, left, height, width) in zip(painted, boxes, strict=True):
        canvas[top : top + height, left : left + width] = True
    for second in range(60):
        for first in range(second):
            if (painted[first] & painted[second]).any():
                assert turn[first] < turn[second]
    assert independent_groups(boxes, 1) == [[number] for number in range(60)]
