"""Networks as a whole: built, trained without a look at the truth, saved, and applied in chunks."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from ptycho.data.canvas import merge
from ptycho.data.chunks import chunk_bounds
from ptycho.data.views import VALIDATION
from ptycho.loader import open_groups
from ptycho.physics.forward import cut_patches, mean_transmittance
from ptycho.physics.probes import first_mode
from tests.conftest import view_of, write_scan

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

from ptycho.model import training as training_module  # noqa: E402
from ptycho.model.card import load_network  # noqa: E402
from ptycho.model.inference import add_groups, check_fit, reconstruct_in_chunks  # noqa: E402
from ptycho.model.networks import NetworkOptions, build_network, build_pinn  # noqa: E402
from ptycho.model.task import prepare, transmittance_of  # noqa: E402
from ptycho.model.training import TrainingError, TrainingOptions, TrainingRun, train  # noqa: E402

TINY = NetworkOptions(filters=2, amplitude_max=1.2)
BRIEF = TrainingOptions(
    epochs=1, batch_size=8, learning_rate=1.0e-3, lr_patience=3, early_stopping_patience=8, trainable_probe=False
)


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


def test_models_of_all_sizes_live_in_one_process(scan):
    probes = {64: first_mode(scan.probe), 128: np.pad(first_mode(scan.probe), 32)}
    models = {}
    for n in (128, 64):
        for channels in (1, 4):
            network = build_network(n, channels, probes[n], TINY, transmittance=0.8)
            models[n, channels] = build_pinn(network, probes[n], 40, trainable_probe=False), network
    for (n, channels), (pinn, network) in models.items():
        inputs = {
            "diffraction": np.ones((2, n, n, channels), np.float32),
            "positions": np.zeros((2, 1, 2, channels), np.float32),
        }
        assert pinn.predict(inputs, verbose=0).shape == (2, n, n, channels)
        assert network.predict(inputs["diffraction"], verbose=0).shape == (2, n, n, 2 * channels)
    with pytest.raises(ValueError, match="patterns of 96 px; wanted one of"):
        build_network(96, 1, np.ones((96, 96)), TINY, transmittance=1.0)


def train_on(method, scan, seed=7):
    keras.utils.clear_session()  # layers named as in a job: their names decide what TensorFlow's optimizer fuses
    view = view_of(scan)
    run = TrainingRun(validation=view.of_role(VALIDATION), max_spread_px=48, seed=seed)
    return train(method, open_groups(scan, view), TINY, BRIEF, run)[0]


@pytest.fixture(scope="module")
def trained(scan):
    return {method: train_on(method, scan) for method in ("pinn", "baseline")}


def same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first.get_weights(), second.get_weights(), strict=True))


@pytest.mark.parametrize("method", ["pinn", "baseline"])
def test_the_same_seed_gives_the_same_weights(method, scan, trained):
    assert same(trained[method], train_on(method, scan))
    assert not same(trained[method], train_on(method, scan, seed=8))


def test_the_pinn_is_trained_without_the_truth(scan, blind_scan, trained):
    assert np.isnan(blind_scan.object[:]).all()
    assert same(trained["pinn"], train_on("pinn", blind_scan))
    with pytest.raises(TrainingError, match="the loss became nan"):
        train_on("baseline", blind_scan)  # the control: the Baseline is trained by it


def test_a_trained_pinn_predicts_better(scan):
    view = view_of(scan, n_groups=48)
    training, network = replace(BRIEF, epochs=6, batch_size=4, learning_rate=5.0e-3), replace(TINY, filters=4)
    run = TrainingRun(validation=view.of_role(VALIDATION), max_spread_px=48, seed=0)
    _, history = train("pinn", open_groups(scan, view), network, training, run)
    assert history["loss"].iloc[-1] < 0.8 * history["loss"].iloc[0]
    assert history["validation_deviance"].iloc[-1] < 0.95 * history["validation_deviance"].iloc[0]
    assert list(history) == ["epoch", "loss", "validation_deviance", "learning_rate"]
    assert len(history) >= training.epochs
    assert history["learning_rate"].is_monotonic_decreasing


def test_data_brighter_than_the_network_can_return_are_warned_of(scan, log):
    network = build_network(64, 4, scan.probe[0], TINY, transmittance=0.8)
    training_module._warn_if_too_bright(network, TINY)
    assert not log.records
    training_module._warn_if_too_bright(network, replace(TINY, amplitude_max=0.85))
    assert [record.levelname for record in log.records] == ["WARNING"]
    assert "network.amplitude_max allows 0.85 at most" in log.text


def test_the_transmittance_of_groups_is_that_of_their_exposures(scan):
    view = view_of(scan)
    groups = np.array([2, 5, 9])
    photons = np.square(scan.diffraction[np.ravel(view.nn_indices[groups])], dtype=np.float64).sum()
    value = transmittance_of(open_groups(scan, view), groups, block_size=2)
    assert value == pytest.approx(mean_transmittance(photons, 12, scan.probe))
    assert 0.5 < value < 1


def test_an_unknown_method_is_named(scan):
    with pytest.raises(TrainingError, match="'magic'; wanted one of"):
        prepare("magic", open_groups(scan, view_of(scan)), TINY, max_spread_px=48, trainable_probe=False)


@pytest.fixture(scope="module")
def saved(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.keras"
    trained["baseline"].save(path)
    return trained["baseline"], path


def test_saved_models_load_in_safe_mode_and_predict_the_same(saved, scan):
    network, path = saved
    again = load_network(path)
    frames = open_groups(scan, view_of(scan)).frames[:3]
    np.testing.assert_array_equal(network(frames).numpy(), again(frames).numpy())


@pytest.mark.parametrize("method", ["pinn", "baseline"])
@pytest.mark.parametrize(("batch_size", "chunks"), [(64, 1), (32, 2), (8, 7), (5, 23), (1, 100)])
def test_neither_batch_nor_chunk_size_shows(trained, scan, method, batch_size, chunks):
    container, network = open_groups(scan, view_of(scan)), trained[method]
    whole = add_groups(network, container, range(len(container)), 24)
    parts = [
        add_groups(network, container, range(*chunk_bounds(len(container), i, chunks)), batch_size)
        for i in range(chunks)
    ]
    assert_same_object(merge([lambda part=part: part for part in reversed(parts)]), whole)


def test_a_last_chunk_of_one_group(trained, scan):
    container = open_groups(scan, view_of(scan, n_groups=25))
    whole = add_groups(trained["pinn"], container, range(25), 25)
    assert_same_object(reconstruct_in_chunks(trained["pinn"], container, 8, 5), whole)


def assert_same_object(canvas, whole):
    """The law of chunks: 1e-6 of the largest value where the weight exceeds a thousandth of its largest."""
    assert canvas.origin_px == whole.origin_px
    heavy = whole.weight > 1e-3 * whole.weight.max()
    assert np.abs(canvas.mean() - whole.mean())[heavy].max() <= 1e-6 * np.abs(whole.mean()).max()


def test_data_of_another_size_are_refused(saved, scan, tmp_path):
    small = write_scan(tmp_path / "n128.npz", n=128, columns=4, rows=4)
    container = open_groups(small, view_of(small, n_groups=3))
    with pytest.raises(ValueError, match=r"groups of \(64, 64, 4\).*\(128, 128, 4\)"):
        check_fit(saved[0], container)


def test_true_patches_on_a_canvas_are_the_object(scan):
    """Golden: group offsets, windows and the canvas agree with the windows of the forward model."""

    class Oracle:
        input_shape = (None, 64, 64, 4)

        def __call__(self, frames, training):
            return tf.constant(np.concatenate([truth.real, truth.imag], -1))

    container = open_groups(scan, view_of(scan))
    exposures = np.asarray(container.nn_indices)
    cut = cut_patches(scan.object[:], scan.xcoords[exposures.ravel()], scan.ycoords[exposures.ravel()], 64)
    cut = np.moveaxis(cut.reshape(*exposures.shape, 64, 64), 1, -1)
    truth = np.abs(cut) + 1j * np.angle(cut)
    canvas = add_groups(Oracle(), container, range(len(container)), len(container))
    top, left = canvas.origin_px
    inside = scan.object[top : top + canvas.weight.shape[0], left : left + canvas.weight.shape[1]]
    seen = canvas.weight > 0
    np.testing.assert_allclose(canvas.mean()[seen], inside[seen], atol=1e-5)
