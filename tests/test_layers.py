"""Layers, losses and the optimizer by themselves, each against its NumPy twin, Keras or a closed form."""

import numpy as np
import pytest

from ptycho.loader import open_groups
from ptycho.physics import noise
from ptycho.physics.forward import predict_intensity
from ptycho.physics.probes import first_mode
from tests.conftest import view_of

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

from ptycho.model import layers, losses  # noqa: E402
from ptycho.model.convolutions import UpConvolution, count_flops  # noqa: E402
from ptycho.model.optimizer import FusedAdam, compile_model, cosine_rate  # noqa: E402


def test_the_detector_agrees_with_the_forward_model(scan):
    container = open_groups(scan, view_of(scan))
    detector = layers.Detector(64)
    detector.set_probe(container.probe_array)
    patches = tf.constant(container.Y[:5])
    ours = np.moveaxis(detector(patches, container.coords_nominal[:5]).numpy(), -1, 1)
    exposures = np.asarray(container.nn_indices[:5]).ravel()
    reference = predict_intensity(scan.object[:], scan.probe, scan.xcoords[exposures], scan.ycoords[exposures])
    assert np.abs(ours.reshape(reference.shape) - reference).max() < 1e-4 * reference.max()


def test_consistent_patches_pass_the_canvas_unchanged(scan):
    container = open_groups(scan, view_of(scan))
    canvas = layers.GroupCanvas(64, 48)
    canvas.set_probe(container.probe_array)
    patches = tf.constant(container.Y[:6])
    np.testing.assert_allclose(canvas(patches, container.coords_nominal[:6]).numpy(), patches.numpy(), atol=1e-5)


def test_the_canvas_weights_patches_by_the_intensity_of_the_probe(scan):
    canvas = layers.GroupCanvas(64, 48)
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


def test_the_inverse_diffraction_of_a_flat_object_is_flat(scan):
    probe = first_mode(scan.probe)
    flat = np.full((64, 64), 0.8, np.complex64)
    amplitude = np.sqrt(predict_intensity(flat, probe, np.array([32.0]), np.array([32.0])))
    layer = layers.InverseDiffraction(64, transmittance=0.8)
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


def test_the_fused_step_is_that_of_adam():
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
    for fused, plain, before in zip(*results, start, strict=True):
        assert np.abs(fused - before).max() > 0.01
        np.testing.assert_allclose(fused, plain, atol=1e-5)
    assert type(keras.optimizers.deserialize(keras.optimizers.serialize(FusedAdam(0.1)))) is FusedAdam


def test_the_learning_rate_falls_to_a_fiftieth_along_a_cosine():
    rate = cosine_rate(0.3, 40)
    assert [rate(step) for step in (0, 20, 40)] == pytest.approx([0.3, 0.51 * 0.3, 0.02 * 0.3])
    steps = np.arange(40)
    closed_form = 0.3 * (0.02 + 0.98 * (1 + np.cos(np.pi * steps / 40)) / 2)
    np.testing.assert_allclose([rate(int(step)) for step in steps], closed_form, rtol=1e-5)


@pytest.mark.slow
def test_a_trainable_probe_is_refined(scan):
    """From a probe that is out of focus and too dim; the true patches are given, the likelihood does the rest."""
    container = open_groups(scan, view_of(scan))
    true = container.probe_array
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
        layers.InverseDiffraction(64, transmittance=0.7),
        layers.GroupCanvas(64, 20),
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


def test_the_poisson_deviance_agrees_with_its_numpy_twin():
    """Also where no photon was counted, and for the bright pixels for which the two terms cancel."""
    rng = np.random.default_rng(0)
    mean = 10.0 ** rng.uniform(-4, 4, (50, 40))
    counts = rng.poisson(mean)
    assert (counts == 0).any()
    per_pixel = losses.pixel_deviance(*(tf.constant(array, tf.float32) for array in (counts, mean)), floor=1e-6)
    reference = [noise.poisson_deviance(*pixel) for pixel in zip(counts.ravel(), mean.ravel(), strict=True)]
    tolerance = 1e-6 * (counts + mean).ravel()  # rounding errors of float32
    assert (np.abs(per_pixel.numpy().ravel() - reference) <= 1e-5 * np.abs(reference) + tolerance).all()
    assert float(tf.reduce_mean(per_pixel)) == pytest.approx(noise.poisson_deviance(counts, mean), rel=1e-4)


def test_the_loss_of_the_pinn_is_the_mean_deviance_of_squared_amplitudes():
    rng = np.random.default_rng(1)
    mean = rng.uniform(0.1, 50, (3, 8, 8, 4))
    counts = rng.poisson(mean)
    loss = losses.PoissonDeviance()(np.sqrt(counts).astype(np.float32), mean.astype(np.float32))
    assert float(loss) == pytest.approx(noise.poisson_deviance(counts, mean), rel=1e-4)


def test_the_poisson_deviance_has_its_closed_form_and_vanishes_at_the_counts():
    amplitude = np.sqrt(np.array([[[[4.0], [0.0]]]], np.float32))
    value = losses.PoissonDeviance()(amplitude, np.array([[[[2.0], [3.0]]]], np.float32)).numpy()
    np.testing.assert_allclose(value, (2 * (2 - 4 + 4 * np.log(2)) + 2 * 3) / 2, rtol=1e-5)
    np.testing.assert_allclose(losses.PoissonDeviance()(amplitude, amplitude**2 + 1e-6).numpy(), 0, atol=1e-5)


def test_the_complex_distance_is_the_mean_of_differences():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 3, 8, 8, 2)).astype(np.float32)
    p, q = rng.uniform(-2, 2, (2, 3, 8, 8, 2)).astype(np.float32)
    loss = losses.ComplexDistance(np.ones((8, 8)).tolist())
    value = loss(np.concatenate([a, p], -1), np.concatenate([b, q], -1)).numpy()
    np.testing.assert_allclose(value, np.abs(a * np.exp(1j * p) - b * np.exp(1j * q)).mean(), rtol=1e-3)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    np.testing.assert_array_equal(again.weight, loss.weight)
