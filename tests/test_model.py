import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from ptycho.grouping import STOP
from ptycho.loader import open_groups
from ptycho.physics import cut_patches, predict_intensity
from ptycho.probes import first_mode
from ptycho.stitch import chunk_bounds, merge
from tests.conftest import view_of, write_scan

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

from ptycho.model import layers, losses  # noqa: E402
from ptycho.model import training as training_module  # noqa: E402
from ptycho.model.convolutions import UpConvolution, count_flops  # noqa: E402
from ptycho.model.inference import add_groups, check_fit, load_network, reconstruct_in_chunks  # noqa: E402
from ptycho.model.networks import Network, build_network, build_pinn  # noqa: E402
from ptycho.model.optimizer import FusedAdam, compile_model  # noqa: E402
from ptycho.model.training import Training, TrainingError, prepare, train  # noqa: E402

TINY = Network(filters=2, amplitude_max=1.2)
PLAIN = {"batch_size": 8, "learning_rate": 1.0e-3, "halve_after": 3, "patience": 8, "trainable_probe": False}
BRIEF = Training(epochs=1, **PLAIN)


def test_importing_the_models_builds_nothing():
    code = """
import keras
built = []
old = keras.Model.__init__
keras.Model.__init__ = lambda self, *a, **k: (built.append(1), old(self, *a, **k))[1]
import ptycho.model, ptycho.model.networks, ptycho.model.training, ptycho.model.inference
print(len(built))
"""
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "0"
    )


def test_detector_agrees_with_the_reference(scan):
    container = open_groups(scan, view_of(scan))
    detector = layers.Detector(64)
    detector.set_probe(container._probe_np)
    patches = tf.constant(container.Y[:5])
    ours = np.moveaxis(detector(patches, container.coords_nominal[:5]).numpy(), -1, 1)
    exposures = np.asarray(container.nn_indices[:5]).ravel()
    theirs = predict_intensity(scan.object[:], scan.probe, scan.xcoords[exposures], scan.ycoords[exposures])
    assert np.abs(ours.reshape(theirs.shape) - theirs).max() < 1e-4 * theirs.max()


def test_consistent_patches_pass_the_canvas_unchanged(scan):
    container = open_groups(scan, view_of(scan))
    canvas = layers.SharedCanvas(64, 48)
    canvas.set_probe(container._probe_np)
    patches = tf.constant(container.Y[:6])
    np.testing.assert_allclose(canvas(patches, container.coords_nominal[:6]).numpy(), patches.numpy(), atol=1e-5)


def test_canvas_averages_with_the_probe_as_weight(scan):
    canvas = layers.SharedCanvas(64, 48)
    weight = np.random.default_rng(0).random((64, 64)) + 0.5
    canvas.set_probe(np.sqrt(weight))
    weight = weight / weight.max() + 1e-3
    patches = np.stack([np.ones((64, 64)), np.full((64, 64), 3.0)], -1)[None].astype(np.complex64)
    positions = np.array([[[[0.2, 10.0], [-5.0, 0.0]]]], np.float32)  # second: 10 px right, 5 px below the first
    out = canvas(tf.constant(patches), tf.constant(positions)).numpy()[0]
    y, x = 40, 30  # of the first patch; (35, 20) of the second
    expected = (weight[y, x] + 3 * weight[y - 5, x - 10]) / (weight[y, x] + weight[y - 5, x - 10])
    np.testing.assert_allclose(out[y, x, 0], expected, rtol=1e-5)
    np.testing.assert_allclose(out[y - 5, x - 10, 1], expected, rtol=1e-5)
    np.testing.assert_allclose(out[2, 2, 0], 1, rtol=1e-5)


def test_backpropagation_of_an_empty_beam_is_flat(scan):
    probe = first_mode(scan.probe)
    flat = np.full((64, 64), 0.8, np.complex64)
    amplitude = np.sqrt(predict_intensity(flat, probe, np.array([32.0]), np.array([32.0])))
    layer = layers.Backpropagation(64, transmission=0.8)
    layer.set_probe(probe)
    out = layer(tf.constant(np.moveaxis(amplitude, 0, -1)[None].astype(np.float32))).numpy()
    assert out.shape == (1, 64, 64, 3)
    np.testing.assert_allclose(out[..., :2], 0, atol=2e-3)


@pytest.mark.parametrize("size", [2, 5])
def test_an_up_convolution_is_upsample_concatenate_convolve(size):
    coarse, fine = keras.Input((size, size, 3)), keras.Input((2 * size, 2 * size, 2))
    ours = UpConvolution(4)
    plain = keras.layers.Conv2D(4, 3, padding="same", activation="leaky_relu")
    doubled = keras.layers.Concatenate()([keras.layers.UpSampling2D()(coarse), fine])
    both = keras.Model([coarse, fine], [ours([coarse, fine]), plain(doubled)])
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=w.shape).astype(np.float32) for w in ours.get_weights()]
    ours.set_weights(weights)
    plain.set_weights(weights)
    images = [rng.normal(size=(2, side, side, c)).astype(np.float32) for side, c in ((size, 3), (2 * size, 2))]
    first, second = both(images)
    np.testing.assert_allclose(first, second, atol=1e-5)


def test_operations_of_convolutions_are_counted():
    coarse, fine = keras.Input((4, 4, 3)), keras.Input((8, 8, 2))
    x = keras.layers.Conv2D(5, 3, padding="same")(UpConvolution(4)([coarse, fine]))
    model = keras.Model([coarse, fine], x)
    assert count_flops(model) == 2 * 9 * 64 * (5 * 4 + 4 * 5)
    assert count_flops(model, folded=True) == 2 * 64 * (9 * 2 * 4 + 4 * 3 * 4 + 9 * 4 * 5)


def test_the_fused_step_is_adams():
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(32, 3)).astype(np.float32), rng.normal(size=(32, 1)).astype(np.float32)
    schedule = keras.optimizers.schedules.CosineDecay(0.05, 20)
    start, results = None, []
    for fused in (True, False):
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)])
        start = start or model.get_weights()
        model.set_weights(start)
        if fused:
            compile_model(model, "mse", schedule)
        else:
            model.compile(optimizer=keras.optimizers.Adam(schedule), loss="mse")
        model.fit(x, y, batch_size=8, epochs=4, shuffle=False, verbose=0)
        results.append(model.get_weights())
    for ours, theirs, before in zip(*results, start, strict=True):
        assert np.abs(ours - before).max() > 0.01
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert type(keras.optimizers.deserialize(keras.optimizers.serialize(FusedAdam(0.1)))) is FusedAdam


@pytest.mark.slow
def test_a_trainable_probe_is_mended(scan):
    """From a probe that is out of focus and too dim, with the true patches behind it: the likelihood brings it back."""
    container = open_groups(scan, view_of(scan))
    true = container._probe_np
    bend = np.add.outer(np.fft.fftfreq(64) ** 2, np.fft.fftfreq(64) ** 2)
    wrong = np.complex64(0.9 * np.fft.ifft2(np.fft.fft2(true) * np.exp(30j * bend)))
    detector, loss = layers.Detector(64, trainable_probe=True), losses.PoissonDeviance()
    detector.set_probe(wrong)
    optimizer = FusedAdam(0.1)
    patches, positions, frames = container.Y[:12], container.coords_nominal[:12], container.X[:12]
    for _ in range(60):
        with tf.GradientTape() as tape:
            value = loss(frames, detector(patches, positions))
        weights = detector.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(value, weights), weights, strict=True))

    def distance(probe):
        return np.linalg.norm(probe - true * np.exp(1j * np.angle(np.vdot(true, probe)))) / np.linalg.norm(true)

    refined = np.array(detector.probe_real) + 1j * np.array(detector.probe_imag)
    assert distance(refined) < 0.5 * distance(wrong)


@pytest.mark.parametrize(
    "layer",
    [
        UpConvolution(4),
        layers.Backpropagation(64, transmission=0.7),
        layers.SharedCanvas(64, 20),
        layers.Detector(64, trainable_probe=True),
        layers.Regroup(64, 4),
        layers.ComplexPatches(),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_come_back_from_their_config(layer):
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()
    assert [w.shape for w in again.weights] == [w.shape for w in layer.weights]


def test_poisson_deviance_is_least_at_the_mean_and_its_closed_form():
    amplitude = np.sqrt(np.array([[[[4.0], [0.0]]]], np.float32))
    value = losses.PoissonDeviance()(amplitude, np.array([[[[2.0], [3.0]]]], np.float32)).numpy()
    np.testing.assert_allclose(value, (2 * (2 - 4 + 4 * np.log(2)) + 2 * 3) / 2, rtol=1e-5)
    np.testing.assert_allclose(losses.PoissonDeviance()(amplitude, amplitude**2 + 1e-6).numpy(), 0, atol=1e-5)


def test_complex_distance_is_the_distance():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 3, 8, 8, 2)).astype(np.float32)
    p, q = rng.uniform(-2, 2, (2, 3, 8, 8, 2)).astype(np.float32)
    loss = losses.ComplexDistance(np.ones((8, 8)).tolist())
    value = loss(np.concatenate([a, p], -1), np.concatenate([b, q], -1)).numpy()
    np.testing.assert_allclose(value, np.abs(a * np.exp(1j * p) - b * np.exp(1j * q)).mean(), rtol=1e-3)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    np.testing.assert_array_equal(again.weight, loss.weight)


def test_models_of_all_sizes_live_in_one_process(scan):
    probes = {64: first_mode(scan.probe), 128: np.pad(first_mode(scan.probe), 32)}
    models = {}
    for n in (128, 64):
        for channels in (1, 4):
            network = build_network(n, channels, probes[n], TINY, transmission=0.8)
            models[n, channels] = build_pinn(network, probes[n], 40, trainable_probe=False), network
    for (n, channels), (pinn, network) in models.items():
        inputs = {
            "diffraction": np.ones((2, n, n, channels), np.float32),
            "positions": np.zeros((2, 1, 2, channels), np.float32),
        }
        assert pinn.predict(inputs, verbose=0).shape == (2, n, n, channels)
        assert network.predict(inputs["diffraction"], verbose=0).shape == (2, n, n, 2 * channels)
    with pytest.raises(ValueError, match="patterns of 96 px; wanted one of"):
        build_network(96, 1, np.ones((96, 96)), TINY, transmission=1.0)


def weights_after_training(method, scan, **changes):
    keras.utils.clear_session()  # the same names of layers, as in a job: they decide what TensorFlow's optimiser fuses
    view = view_of(scan)
    container, options = open_groups(scan, view), {"stop": view.of_role(STOP), "spread": 48, "seed": 7} | changes
    return train(method, container, TINY, BRIEF, **options)[0].get_weights()


def same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("method", ["pinn", "baseline"])
def test_the_same_seed_gives_the_same_weights(method, scan):
    first = weights_after_training(method, scan)
    assert same(first, weights_after_training(method, scan))
    assert not same(first, weights_after_training(method, scan, seed=8))


def test_truth_never_reaches_the_pinn(scan, blind_scan):
    assert np.isnan(blind_scan.object[:]).all()
    assert same(weights_after_training("pinn", scan), weights_after_training("pinn", blind_scan))
    with pytest.raises(TrainingError, match="the loss became nan"):
        weights_after_training("baseline", blind_scan)  # the control: truth does reach the Baseline


def test_a_trained_pinn_predicts_better(scan):
    view = view_of(scan, n_groups=48)
    training = Training(epochs=6, **PLAIN | {"batch_size": 4, "learning_rate": 5.0e-3})
    options = {"stop": view.of_role(STOP), "spread": 48, "seed": 0}
    _, history = train("pinn", open_groups(scan, view), Network(filters=4, amplitude_max=1.2), training, **options)
    assert history["loss"].iloc[-1] < 0.8 * history["loss"].iloc[0]
    assert history["stop_deviance"].iloc[-1] < 0.95 * history["stop_deviance"].iloc[0]
    assert list(history) == ["epoch", "loss", "stop_deviance", "learning_rate"]
    assert len(history) >= training.epochs
    assert history["learning_rate"].is_monotonic_decreasing


def test_convolutions_in_bfloat16_leave_the_rest_in_float32(scan, tmp_path):
    """Nearly the same numbers, other products; weights, physics and what goes out are float32, also when loaded."""
    container = open_groups(scan, view_of(scan))
    exact, rough = (
        build_network(64, 4, scan.probe[0], replace(TINY, filters=4, bfloat16=flag), transmission=0.8)
        for flag in (False, True)
    )
    rough.set_weights(exact.get_weights())
    frames = container._X_np[:2]
    first, second = exact(frames).numpy(), rough(frames).numpy()
    assert second.dtype == np.float32
    assert 0 < np.abs(first - second).max() < 0.05
    assert {weight.dtype for weight in rough.weights} == {"float32"}
    named = {layer.name: layer.compute_dtype for layer in rough.layers if "conv" in layer.name}
    assert set(named.values()) == {"bfloat16"}
    assert rough.get_layer("backpropagation").compute_dtype == "float32"
    assert build_pinn(rough, scan.probe[0], 48, trainable_probe=False).get_layer("detector").compute_dtype == "float32"
    rough.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(load_network(tmp_path / "model.keras")(frames).numpy(), second)


def test_what_does_not_suit_the_data_is_said(scan, monkeypatch):
    monkeypatch.setattr(training_module, "multiplies_bfloat16", lambda config: False)
    network = build_network(64, 4, scan.probe[0], TINY, transmission=0.8)
    assert training_module._doubts(network, TINY) == []
    said = training_module._doubts(network, replace(TINY, amplitude_max=0.85, bfloat16=True))
    assert "amplitude_max allows 0.85" in said[0]
    assert "no such products" in said[1]


def test_an_unknown_method_is_named(scan):
    with pytest.raises(TrainingError, match="'magic'; wanted one of"):
        prepare("magic", open_groups(scan, view_of(scan)), TINY, spread=48, trainable_probe=False)


@pytest.fixture(scope="module")
def trained(scan):
    view = view_of(scan)
    container, options = open_groups(scan, view), {"stop": view.of_role(STOP), "spread": 48, "seed": 0}
    return {method: train(method, container, TINY, BRIEF, **options)[0] for method in ("pinn", "baseline")}


@pytest.fixture(scope="module")
def saved(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.keras"
    trained["baseline"].save(path)
    return trained["baseline"], path


def test_saved_models_load_in_safe_mode_and_predict_the_same(saved, scan):
    network, path = saved
    again = load_network(path)
    frames = open_groups(scan, view_of(scan))._X_np[:3]
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
    """Golden: group offsets, window placement and stitching agree with the forward model's windows."""

    class Oracle:
        input_shape = (None, 64, 64, 4)

        def __call__(self, batch, training):
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
