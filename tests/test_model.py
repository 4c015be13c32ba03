"""Networks of PINN and Baseline as a whole: built for canvases of any size, trained without a look at the truth."""

import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest

from ptycho.data.views import VALIDATION
from ptycho.loader import open_groups
from ptycho.model.card import load_network
from ptycho.model.networks import CanvasModel, Estimator, NetworkOptions, build_network
from ptycho.model.training import TrainingOptions, TrainingRun, train
from ptycho.model.unet import padded
from ptycho.model.unet_training import ROUNDS
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.features import MAX_FEATURE
from ptycho.reconstruction.gradient_descent import gradient_descent
from ptycho.reconstruction.likelihood import Likelihood
from tests.conftest import view_of, write_scan

TINY = NetworkOptions(filters=2, physics_iterations=2)
BRIEF = TrainingOptions(steps=2 * ROUNDS, learning_rate=1.0e-3, fit_fraction=0.8, loss="poisson")


def test_importing_the_models_builds_nothing():
    code = """
import keras
built = []
old = keras.Model.__init__
keras.Model.__init__ = lambda self, *a, **k: (built.append(1), old(self, *a, **k))[1]
import ptycho.model.inference, ptycho.model.networks, ptycho.model.refined, ptycho.model.training, ptycho.model.unrolled
print(len(built))
"""
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "0"
    )


@pytest.mark.parametrize(
    ("iterations", "kept"), [(0, (0,)), (1, (1, 0)), (4, (4, 0)), (5, (5, 1, 0)), (30, (30, 6, 0))]
)
def test_a_network_sees_the_last_estimate_an_early_one_and_the_first(scan, counts, iterations, kept):
    estimator = Estimator(physics_iterations=iterations, transmittance=0.8, n_pixels=64)
    assert estimator.kept == kept
    likelihood = Likelihood(counts, scan.probe)
    features = estimator.features(likelihood)
    assert features.shape == (*likelihood.shape, estimator.n_features)
    flat = np.full(likelihood.shape, 0.8, np.complex64)
    for number, obj in enumerate(gradient_descent(likelihood, flat, iterations, kept)):
        seen = features[..., 2 * number] + 1j * features[..., 2 * number + 1]
        difference = (obj - flat).view(np.float32)
        np.testing.assert_allclose(seen.view(np.float32), np.clip(difference, -MAX_FEATURE, MAX_FEATURE), atol=1e-6)
    assert np.isfinite(features).all()


def test_networks_of_all_numbers_of_estimates_take_canvases_of_any_size():
    for iterations in (0, 2, 8):
        estimator = Estimator(physics_iterations=iterations, transmittance=0.8, n_pixels=64)
        network = build_network(estimator, 2)
        for shape in ((16, 24), (41, 10)):
            features = np.random.default_rng(0).normal(size=(*shape, estimator.n_features)).astype(np.float32)
            inputs = padded(features)[None]
            assert network(inputs).shape == (*inputs.shape[:3], 2)


def test_an_untrained_network_nearly_returns_the_estimate(scan, counts):
    estimator = Estimator(physics_iterations=5, transmittance=0.8, n_pixels=64)
    likelihood = Likelihood(counts, scan.probe)
    flat = np.full(likelihood.shape, 0.8, np.complex64)
    estimate, _, first = gradient_descent(likelihood, flat, 5, estimator.kept)
    obj = CanvasModel(build_network(estimator, 2), estimator).reconstruct(counts, scan.probe).object
    assert np.linalg.norm(obj - estimate) < 0.5 * np.linalg.norm(first - estimate)
    assert np.linalg.norm(obj - estimate) < 0.15 * np.linalg.norm(estimate - flat)


def test_patterns_of_another_size_are_refused(counts, scan):
    estimator = Estimator(physics_iterations=0, transmittance=0.8, n_pixels=128)
    model = CanvasModel(build_network(estimator, 1), estimator)
    with pytest.raises(ValueError, match="patterns of 64 px; the network was trained on 128 px"):
        model.reconstruct(counts, scan.probe)


def train_on(method, scan, *, seed=7, gridsize=2, **changes):
    keras.utils.clear_session()  # layers named as in a job: their names decide what TensorFlow's optimizer fuses
    view = view_of(scan, gridsize)
    run = TrainingRun(validation=view.of_role(VALIDATION), seed=seed)
    return train(method, open_groups(scan, view), TINY, replace(BRIEF, **changes), run)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A scan of 32 px, and the same with every truth overwritten by NaN."""
    folder = tmp_path_factory.mktemp("small")
    return write_scan(folder / "scan.npz", n=32), write_scan(folder / "blind.npz", n=32, truth=np.nan)


@pytest.fixture(scope="module")
def trained(small):
    return {method: train_on(method, small[0])[0] for method in ("pinn", "baseline")}


def same(first, second):
    first, second = first.network.get_weights(), second.network.get_weights()
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("method", ["pinn", "baseline"])
def test_the_same_seed_gives_the_same_weights(method, small, trained):
    assert same(trained[method], train_on(method, small[0])[0])
    assert not same(trained[method], train_on(method, small[0], seed=8)[0])


def test_the_pinn_is_trained_without_the_truth(small, trained):
    _, blind = small
    assert np.isnan(blind.object[:]).all()
    assert same(trained["pinn"], train_on("pinn", blind)[0])
    with pytest.raises(ValueError, match="the loss became nan"):
        train_on("baseline", blind)  # the control: the Baseline is trained by it


def test_methods_and_losses_differ(small, trained):
    assert not same(trained["pinn"], trained["baseline"])
    assert not same(trained["pinn"], train_on("pinn", small[0], loss="mae")[0])
    assert same(trained["baseline"], train_on("baseline", small[0], loss="mae")[0])  # of the PINN alone


def counts_of(scan, count):
    return Counts.of(scan, np.arange(count))


@pytest.mark.parametrize("gridsize", [1, 2, 4])
def test_groups_of_any_size_are_trained_on_and_larger_canvases_reconstructed(small, gridsize):
    """Two steps; then all exposures at once, and some, on canvases of sizes that were never trained on."""
    scan = small[0]
    model, history = train_on("pinn", scan, gridsize=gridsize, steps=2)
    assert np.isfinite(history.to_numpy()).all()
    assert list(history) == ["epoch", "loss", "validation_deviance", "learning_rate"]
    shapes = set()
    for count in (1, 2, 9, len(scan)):
        counts = counts_of(scan, count)
        result = model.reconstruct(counts, scan.probe)
        shapes.add(result.object.shape)
        assert result.object.shape == Likelihood(counts, scan.probe).shape
        assert np.isfinite(result.object).all()
    assert len(shapes) == 4


def test_a_saved_network_gives_the_same_outputs(trained, small, tmp_path):
    counts, probe = counts_of(small[0], 9), small[0].probe
    for method, model in trained.items():
        path = tmp_path / f"{method}.keras"
        model.network.save(path)
        again = replace(model, network=load_network(path))
        np.testing.assert_array_equal(again.reconstruct(counts, probe).object, model.reconstruct(counts, probe).object)
