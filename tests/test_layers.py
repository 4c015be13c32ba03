"""The layer, the losses and the optimizer by themselves, each against NumPy, Keras or a closed form."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ptycho.model import losses
from ptycho.model.layers import FIRST_LOGIT, Blend
from ptycho.model.optimizer import FusedAdam, cosine_rate
from ptycho.model.unet_training import target_of
from ptycho.physics import noise
from ptycho.physics.forward import predict_intensity
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.likelihood import BACKGROUND, Likelihood

N = 8
X, Y = np.array([6.3, 9.0, 7.7]), np.array([5.6, 6.49, 9.0])


def noise_of(shape, seed):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def blend(features, output):
    return Blend(3)(tf.constant(features), tf.constant(output, tf.float32)).numpy()


def test_without_outputs_the_blend_is_nearly_the_first_estimate():
    """Three estimates and zero: the softmax of logits (3, 0, 0, 0)."""
    features = noise_of((1, 4, 5, 7), 0)
    first = np.exp(FIRST_LOGIT) / (np.exp(FIRST_LOGIT) + 3)
    assert first > 0.85
    expected = first * features[..., :2] + (1 - first) / 3 * (features[..., 2:4] + features[..., 4:6])
    np.testing.assert_allclose(blend(features, np.zeros((1, 4, 5, 6))), expected, atol=1e-6)


def test_logits_choose_an_estimate_or_none_pixel_by_pixel():
    features, output = noise_of((1, 2, 2, 7), 0), np.zeros((1, 2, 2, 6), np.float32)
    correction = noise_of((1, 2, 2, 2), 1)
    output[..., :2] = correction
    for (row, column), choice in zip(np.ndindex(2, 2), range(4), strict=True):
        output[0, row, column, 2 + choice] = 40
    blended = blend(features, output)
    for (row, column), choice in zip(np.ndindex(2, 2), (0, 1, 2, None), strict=True):
        chosen = 0 if choice is None else features[0, row, column, 2 * choice : 2 * choice + 2]
        np.testing.assert_allclose(blended[0, row, column], correction[0, row, column] + chosen, atol=1e-6)


def test_the_blend_comes_back_from_its_config():
    layer = Blend(3, name="blend")
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert type(again) is Blend
    assert again.get_config() == layer.get_config()
    features, output = noise_of((1, 4, 5, 7), 0), noise_of((1, 4, 5, 6), 1)
    np.testing.assert_array_equal(again(features, output).numpy(), layer(features, output).numpy())


def test_the_fused_step_is_that_of_adam():
    rng = np.random.default_rng(0)
    start = [rng.normal(size=shape).astype(np.float32) for shape in ((3, 4), (4,))]
    gradients = [[rng.normal(size=array.shape).astype(np.float32) for array in start] for _ in range(20)]
    results = []
    for optimizer in (FusedAdam(0.05, clipnorm=1.0), keras.optimizers.Adam(0.05, clipnorm=1.0)):
        variables = [keras.Variable(array) for array in start]
        optimizer.build(variables)
        for step, gradient in enumerate(gradients):
            optimizer.learning_rate = cosine_rate(0.05, 20)(step)
            optimizer.apply_gradients(zip(map(tf.constant, gradient), variables, strict=True))
        results.append([np.array(variable) for variable in variables])
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


def test_the_poisson_deviance_has_its_closed_form_and_vanishes_at_the_counts():
    counts, mean = tf.constant([4.0, 0.0]), tf.constant([2.0, 3.0])
    value = losses.pixel_deviance(counts, mean, BACKGROUND).numpy()
    np.testing.assert_allclose(value, [2 * (2 - 4 + 4 * np.log(2)), 2 * 3], rtol=1e-5)
    np.testing.assert_allclose(losses.pixel_deviance(counts, counts + 1e-6, BACKGROUND).numpy(), 0, atol=1e-5)


@pytest.fixture(params=[1, 3], ids=["one mode", "three modes"])
def canvas(request):
    """Likelihood of noisy counts, what the losses compare a canvas with, and a canvas with a margin of a pixel."""
    probe = (noise_of((request.param, N, N), 0) + 1j * noise_of((request.param, N, N), 1)).astype(np.complex64)
    obj = (noise_of((20, 22), 2) + 1j * noise_of((20, 22), 3)).astype(np.complex64)
    frames = np.random.default_rng(4).poisson(predict_intensity(obj, probe, X, Y)).astype(float)
    likelihood = Likelihood(Counts(frames.__getitem__, X, Y, 2), probe)
    origin = likelihood.origin_px[0] - 1, likelihood.origin_px[1] - 1
    shape = likelihood.shape[0] + 2, likelihood.shape[1] + 3
    guess = (noise_of(shape, 5) + 1j * noise_of(shape, 6)).astype(np.complex64)
    return likelihood, target_of(likelihood, origin), guess, frames, origin


def test_the_deviance_of_a_canvas_is_twice_the_likelihood_per_pixel(canvas):
    likelihood, target, guess, frames, _ = canvas
    (height, width) = likelihood.shape
    inside = guess[1 : 1 + height, 1 : 1 + width]
    value = float(losses.canvas_deviance(tf.constant(guess), **target))
    assert value == pytest.approx(2 * likelihood(inside)[0] / frames.size, rel=1e-5)


def test_the_amplitude_error_of_a_canvas_is_that_of_the_forward_model(canvas):
    likelihood, target, guess, frames, origin = canvas
    predicted = predict_intensity(guess, likelihood.probe, X, Y, origin) + BACKGROUND
    expected = np.abs(np.sqrt(predicted) - np.sqrt(frames)).mean()
    assert float(losses.canvas_amplitude_error(tf.constant(guess), **target)) == pytest.approx(expected, rel=1e-5)


def test_the_distance_of_canvases_is_the_weighted_mean_of_squared_differences():
    first, second = ((noise_of((6, 7), seed) + 1j * noise_of((6, 7), seed + 1)).astype(np.complex64) for seed in (0, 2))
    weight = noise_of((6, 7), 4) ** 2
    expected = np.average(np.abs(first - second) ** 2, weights=weight)
    value = losses.canvas_distance(*map(tf.constant, (first, second, weight)))
    assert float(value) == pytest.approx(expected, rel=1e-5)
    assert float(losses.canvas_distance(*map(tf.constant, (first, first, weight)))) == 0
