"""A probe that is trained with the PINN: its gradient, what becomes right, and that it belongs to the weights."""

from dataclasses import replace

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from ptycho.data.object_files import load_reconstruction
from ptycho.data.scan import open_scan
from ptycho.data.views import VALIDATION
from ptycho.loader import open_groups
from ptycho.model.card import read_probe
from ptycho.model.group_examples import GroupExamples
from ptycho.model.losses import canvas_deviance, with_shifted_probes
from ptycho.model.networks import CanvasModel, Estimator, NetworkOptions, build_network
from ptycho.model.trained_probe import TrainedProbe
from ptycho.model.training import TrainingOptions, TrainingRun, train
from ptycho.model.unet_training import ROUNDS, Trainer, target_of
from ptycho.physics.probes import scale_to, zone_plate_probe
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.joint_likelihood import JointLikelihood
from ptycho.reconstruction.likelihood import Likelihood
from ptycho.scoring.knowledge import probe_error
from ptycho.workflow.config import ConfigError, check_config, load_config
from tests.conftest import view_of, write_scan
from tests.workflow import CONDITION, TINY

N, DOSE, MODES = 32, 200_000, 2
NETWORK = NetworkOptions(filters=1, physics_iterations=15)
OPTIONS = TrainingOptions(steps=6 * ROUNDS, learning_rate=1.0e-3, fit_fraction=0.8, loss="poisson", probe="trained")
FLUX = {"exposure_scale": np.linspace(0.7, 1.3, 49)}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A scan of 32 px in two modes whose flux differs from exposure to exposure."""
    path = tmp_path_factory.mktemp("small") / "scan.npz"
    return write_scan(path, n=N, modes=MODES, dose=DOSE, detector=FLUX)


@pytest.fixture(scope="module")
def sharp(tmp_path_factory):
    """A scan of 32 px, and the same with a probe whose defocus is wrong by 30 %."""
    scan = write_scan(tmp_path_factory.mktemp("sharp") / "scan.npz", n=N, dose=DOSE)
    optics = {"pupil_px": N * 0.2, "stop": 0.3, "astigmatism_rad": 0.6, "coma_rad": 0.4}
    wrong = scale_to(zone_plate_probe(N, defocus_px=1.3 * N * 0.4, **optics), DOSE)[None]
    return scan, replace(scan, probe=wrong)


def trained(scan, method="pinn", **changes):
    keras.utils.clear_session()
    view = view_of(scan, gridsize=3)
    run = TrainingRun(validation=view.of_role(VALIDATION), seed=7)
    return train(method, open_groups(scan, view), NETWORK, replace(OPTIONS, **changes), run)


def shifted(scan, count, fraction):
    """Likelihood of some exposures, and the arguments of a loss with a free probe."""
    likelihood = Likelihood(Counts.of(scan, np.arange(count)), scan.probe, fraction)
    target = target_of(likelihood, likelihood.origin_px, free_probe=True)
    return likelihood, {name: tf.constant(array) for name, array in target.items()}


def test_a_free_probe_is_shifted_as_a_known_one(small):
    likelihood, target = shifted(small, 5, 0.2)
    known, free = target_of(likelihood, likelihood.origin_px), with_shifted_probes(**target)
    assert set(free) == set(known)
    np.testing.assert_allclose(free["probes"], known["probes"], atol=2e-6 * np.abs(known["probes"]).max())
    assert np.sum(np.abs(target["probe"]) ** 2) == pytest.approx(0.2 * DOSE, rel=1e-4)


def test_the_gradient_in_the_probe_is_that_of_the_likelihood(small):
    likelihood, target = shifted(small, 9, 1.0)
    rng = np.random.default_rng(0)
    obj = (0.8 + 0.1 * rng.normal(size=likelihood.shape)).astype(np.complex64)
    with tf.GradientTape() as tape:
        tape.watch(target["probe"])
        loss = canvas_deviance(tf.constant(obj), **with_shifted_probes(**target))
    gradient = tape.gradient(loss, target["probe"]).numpy()
    joint = JointLikelihood(likelihood.counts, small.probe, margin_px=0)
    value, expected = joint.evaluate(joint.parameters(obj), ("probe",))
    assert float(loss) == pytest.approx(2 * value / joint.n_values, rel=1e-4)
    expected = 2 * expected.probe / joint.n_values
    np.testing.assert_allclose(gradient, expected, atol=1e-4 * np.abs(expected).max())


def test_a_step_is_one_of_newtons_along_a_pixel_and_keeps_the_photons(small, monkeypatch):
    """A quadratic loss with the curvature of the deviance, 4 t² f per valid pixel, is at its minimum after one step."""
    monkeypatch.setattr("ptycho.model.trained_probe.PIXEL_STEP", 1.0)
    monkeypatch.setattr("ptycho.model.trained_probe.ABERRATION_STEP", 0.0)
    fraction, transmittance, n_valid = 0.2, 0.7, N * N - 40
    probe = TrainedProbe(small.probe, fraction=fraction, transmittance=transmittance, n_valid=n_valid)
    real, imaginary = 0.05 * np.random.default_rng(1).normal(size=(2, *small.probe.shape))
    wanted = scale_to(small.probe + real + 1j * imaginary, np.sum(np.abs(small.probe) ** 2))
    gradient = 4 * transmittance**2 / n_valid * np.sqrt(fraction) * (probe.value - wanted)
    before = np.linalg.norm(probe.value - wanted)
    probe.step(gradient, 1.0)
    assert np.linalg.norm(probe.value - wanted) < 0.02 * before
    assert np.sum(np.abs(probe.value) ** 2) == pytest.approx(np.sum(np.abs(small.probe) ** 2), rel=1e-5)


def test_a_probe_comes_back_from_its_state_to_the_bit(small):
    options, rng = {"fraction": 0.2, "transmittance": 0.8, "n_valid": N * N}, np.random.default_rng(0)
    gradients = (1e-4 * rng.normal(size=(4, MODES, N, N))).astype(np.complex64)
    first, second = (TrainedProbe(small.probe, **options) for _ in range(2))
    np.testing.assert_array_equal(first.value, second.value)
    np.testing.assert_allclose(first.value, small.probe, atol=1e-5 * np.abs(small.probe).max())
    for gradient in gradients[:2]:
        first.step(gradient, 0.5)
    second.restore(first.state())
    for gradient in gradients[2:]:
        for probe in (first, second):
            probe.step(gradient, 0.5)
    np.testing.assert_array_equal(first.value, second.value)
    assert not np.allclose(first.value, small.probe)


def test_examples_are_made_with_the_probe_of_the_moment(small):
    container = open_groups(small, view_of(small))
    probe = TrainedProbe(small.probe, fraction=0.2, transmittance=0.8, n_valid=N * N)
    estimator = Estimator(physics_iterations=2, transmittance=0.8, n_pixels=N)
    examples = GroupExamples(container=container, estimator=estimator, fit_fraction=0.8, probe=probe)
    before = examples.photons(0, np.random.default_rng(5))
    probe.step((0.1 * np.random.default_rng(0).normal(size=probe.value.shape)).astype(np.complex64), 1.0)
    after = examples.photons(0, np.random.default_rng(5))
    np.testing.assert_array_equal(before.target["frames"], after.target["frames"])
    np.testing.assert_allclose(after.target["probe"], np.sqrt(0.2) * probe.value, rtol=1e-5)
    assert not np.array_equal(before.target["probe"], after.target["probe"])
    moved = replace(small, probe=probe.value)
    known = replace(examples, container=open_groups(moved, view_of(small)), probe=None)
    np.testing.assert_array_equal(after.features, known.photons(0, np.random.default_rng(5)).features)
    assert not np.array_equal(before.features, after.features)


@pytest.mark.slow
def test_a_trained_probe_gets_closer_to_the_right_one_and_explains_the_photons(sharp):
    right, wrong = sharp
    model, history = trained(wrong)
    assert model.probe.shape == right.probe.shape
    assert probe_error(model.probe, right.probe) < 0.25 * probe_error(wrong.probe, right.probe)  # measured: 0.15
    assert np.sum(np.abs(model.probe) ** 2) == pytest.approx(DOSE, rel=1e-4)
    deviance = history["validation_deviance"]
    assert deviance.iloc[-1] == deviance.min() < 0.95 * deviance.iloc[0]  # 0.92; with a fixed probe 0.99


def test_the_baseline_ignores_it(sharp):
    model, _ = trained(sharp[1], "baseline", steps=ROUNDS)
    assert model.probe is None


def test_the_probe_that_is_kept_is_that_of_the_kept_weights(sharp, monkeypatch):
    probes, deviances = [], iter([2.0, 1.0, *np.linspace(1.5, 9, 50)])

    def validate(self):
        probes.append(self.probe.value)
        return next(deviances)

    monkeypatch.setattr(Trainer, "validate", validate)
    model, _ = trained(sharp[1], steps=ROUNDS)
    np.testing.assert_array_equal(model.probe, probes[1])
    assert not np.array_equal(probes[1], probes[-1])


def test_a_model_uses_its_probe_with_the_photons_of_the_scan(sharp):
    right, wrong = sharp
    estimator = Estimator(physics_iterations=2, transmittance=0.8, n_pixels=N)
    model = CanvasModel(build_network(estimator, 1), estimator, right.probe[:, ::-1])
    counts, told = Counts.of(right, np.arange(9)), 2 * wrong.probe
    result = model.reconstruct(counts, told)
    np.testing.assert_allclose(result.refined.probe, 2 * right.probe[:, ::-1], rtol=1e-5)
    other = replace(model, probe=None)
    assert other.refined(told) is None
    same = other.reconstruct(counts, result.refined.probe)
    np.testing.assert_array_equal(result.object, same.object)
    np.testing.assert_array_equal(result.illumination, same.illumination)
    assert not np.allclose(result.object, other.reconstruct(counts, told).object, atol=1e-3)


@pytest.mark.slow
def test_it_is_saved_with_its_model_used_and_scored(every_method):
    folder = every_method[0] / CONDITION
    told = open_scan(every_method[0] / "results/tiny/data/dose_100000/seed_0/train.npz").probe
    trained, baseline = (read_probe(folder / method / "model.keras") for method in ("pinn", "baseline"))
    assert not np.array_equal(trained, told)
    np.testing.assert_array_equal(baseline, told)
    used = load_reconstruction(folder / "test/pinn/object.npz")[0].refined.probe
    np.testing.assert_allclose(used, trained, atol=1e-4 * np.abs(trained).max())
    assert load_reconstruction(folder / "test/baseline/object.npz")[0].refined is None
    scores = pd.read_csv(folder / "test/comparison_metrics.csv").query("metric == 'probe_error'")
    assert list(scores["method"]) == ["pinn"]
    assert 0 < scores["value"].item() < 0.05


def test_a_loss_that_does_not_move_it_is_refused_before_any_job():
    config = load_config(TINY)
    config["training"] |= {"probe": "trained"}
    check_config(config)
    config["training"] |= {"loss": "mae"}
    with pytest.raises(ConfigError, match=r"training\.probe: trained, with training\.loss mae; wanted poisson"):
        check_config(config)
