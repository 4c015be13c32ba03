from dataclasses import replace

import numpy as np
import pytest

from ptycho.align import align
from ptycho.likelihood import Counts, Likelihood
from ptycho.metrics import error

tf = pytest.importorskip("tensorflow")

from ptycho.model.inference import load_network  # noqa: E402
from ptycho.model.unrolled import (  # noqa: E402
    CHANNELS,
    Unrolled,
    _deviance,
    apply_unrolled,
    build_unrolled,
    features,
    train_unrolled,
    transmission_of,
)

OPTIONS = Unrolled(filters=8, iterations=12, tile_px=30, tiles=4, steps=40, learning_rate=2.0e-3, fit_share=0.8)


@pytest.fixture(scope="module")
def counts(scan):
    return Counts.of(scan, np.arange(len(scan)))


@pytest.fixture(scope="module")
def trained(scan, counts):
    return train_unrolled(counts, scan.probe, OPTIONS, seed=0)


def test_the_loss_is_the_likelihood_of_the_solvers(scan, counts):
    likelihood = Likelihood(replace(counts, block_size=len(counts)), scan.probe)
    obj, _ = features(likelihood, 0.8, 3)
    frames, probes = likelihood.block(slice(0, len(counts)))
    top, left = (
        (start - first).astype(np.int32)
        for start, first in zip((likelihood.top, likelihood.left), likelihood.origin_px, strict=True)
    )
    ours = float(_deviance(tf.constant(obj), top, left, frames, probes))
    assert ours == pytest.approx(2 * likelihood(obj)[0] / frames.size, rel=1e-4)


def test_a_network_takes_canvases_of_any_size_and_starts_at_nothing():
    network = build_unrolled(4)
    for shape in ((16, 24), (40, 8)):
        said = network(np.random.default_rng(0).normal(size=(1, *shape, CHANNELS)).astype(np.float32)).numpy()
        assert said.shape == (1, *shape, 2)
        assert np.abs(said).max() < 0.1


def test_the_same_seed_gives_the_same_network_and_files_load_in_safe_mode(scan, counts, trained, tmp_path):
    network, history = trained
    again, _ = train_unrolled(counts, scan.probe, OPTIONS, seed=0)
    for first, second in zip(network.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)
    network.save(tmp_path / "model.keras")
    loaded = load_network(tmp_path / "model.keras")
    for first, second in zip(network.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)
    assert list(history) == ["epoch", "loss", "learning_rate"]


def test_the_network_adds_to_the_steps_on_the_same_pixels(scan, counts, trained):
    obj, light, (top, left) = apply_unrolled(trained[0], counts, scan.probe, OPTIONS.iterations)
    start, _ = features(Likelihood(counts, scan.probe), transmission_of(counts, scan.probe), OPTIONS.iterations)
    truth = scan.object[top : top + obj.shape[0], left : left + obj.shape[1]]
    inside = np.s_[30 : obj.shape[0] - 30, 30 : obj.shape[1] - 30]
    errors = {}
    for name, estimate in (("start", start), ("network", obj)):
        aligned, gauge = align(estimate, truth, light, inside)
        errors[name] = error(aligned, truth[inside])
    assert errors["network"] < errors["start"]
    assert gauge.shift_px < 0.1
