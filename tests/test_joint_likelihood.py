"""The likelihood in all that predicts counts: finite differences, adjoints, and what must not matter."""

from dataclasses import replace

import numpy as np
import pytest

from ptycho.physics.detector import Detector
from ptycho.physics.forward import illumination, predict_intensity
from ptycho.reconstruction import joint_likelihood as joint_likelihood_module
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.counts_on_canvas import BACKGROUND
from ptycho.reconstruction.joint_likelihood import MIN_COUNTS, JointLikelihood
from ptycho.reconstruction.likelihood import Likelihood
from ptycho.reconstruction.parameters import NAMES, Parameters
from ptycho.reconstruction.smooth_background import SmoothBackground
from tests.strict_device import StrictDevice
from tests.test_detector import bad_pixels

N, M, MARGIN = 16, 6, 4
RNG = np.random.default_rng(0)
X, Y = 12 + 6 * RNG.random(M), 11 + 6 * RNG.random(M)
BAD, DARK = bad_pixels(N), np.linspace(0.1, 0.6, N * N, dtype=np.float32).reshape(N, N)
SCALE = np.linspace(0.7, 1.3, M)
DETECTOR = Detector(bad_pixels=BAD, background=DARK, exposure_scale=SCALE)


def probe_of(modes, n=N):
    """Gaussian beams, each with a curvature and a tilt of its own; of 32 px, they vanish at borders and edges."""
    down, across = np.meshgrid(np.arange(n) - n / 2, np.arange(n) - n / 2, indexing="ij")
    square = down**2 + across**2
    waves = [np.exp(0.02j * (k + 1) * square + 0.3j * k * down) / (k + 1) for k in range(modes)]
    return (9 * np.exp(-square / 8) * np.array(waves)).astype(np.complex64)


def counts_of(block_size=4, detector=DETECTOR, frames=None, modes=3):
    frames = frames_of(modes) if frames is None else frames
    return Counts(frames.__getitem__, X, Y, block_size, detector)


def frames_of(modes):
    """Counts of a sample that the tests' objects are not."""
    shape = JointLikelihood(Counts(np.zeros((M, N, N)).__getitem__, X, Y), probe_of(1), margin_px=MARGIN)
    obj = 0.8 + 0.2 * np.random.default_rng(1).normal(size=shape.shape)
    mean = DETECTOR.expected_counts(predict_intensity(obj, probe_of(modes), X, Y, shape.origin_px))
    return np.random.default_rng(2).poisson(mean).astype(float)


def likelihood_of(modes=3, fraction=1.0, **options):
    device = {"device": options.pop("device")} if "device" in options else {}
    counts = counts_of(modes=modes, **options)
    return JointLikelihood(counts, probe_of(modes), fraction, margin_px=MARGIN, **device)


def parameters_of(likelihood, double=False, **changes):
    """Parameters that do not explain the counts, and are as recorded in nothing."""
    rng = np.random.default_rng(3)
    obj = 0.8 + 0.1 * (rng.normal(size=likelihood.shape) + 1j * rng.normal(size=likelihood.shape))
    probe = likelihood.probe * (1 + 0.1 * rng.normal(size=likelihood.probe.shape))
    precision = np.complex128 if double else np.complex64
    given = {
        "object": obj.astype(precision),
        "probe": probe.astype(precision),
        "shifts": rng.uniform(-0.8, 0.8, (2, M)),
        "flux": rng.uniform(0.8, 1.2, M),
        "background": rng.uniform(0.0, 0.3, (N, N)).astype(np.float64 if double else np.float32),
    }
    return Parameters(**given | changes)


def inner(first, second):
    return float(np.sum((np.conj(first) * second).real))


def slope(likelihood, parameters, name, direction, step):
    """Central finite difference of the value along a direction."""
    values = [
        likelihood.evaluate(replace(parameters, **{name: getattr(parameters, name) + sign * step * direction}), ())[0]
        for sign in (1, -1)
    ]
    return (values[0] - values[1]) / (2 * step)


def directions(name, value):
    """A random direction, and two of a single number."""
    rng = np.random.default_rng(4)
    shape, unit = np.shape(value), 1j if np.iscomplexobj(value) else 1
    single = np.zeros((2, *shape), np.result_type(value, np.float64))
    middle = tuple(side // 2 - 1 for side in shape)
    single[0][middle], single[1][middle] = 1, unit
    whole = rng.normal(size=shape) + (1j * rng.normal(size=shape) if unit == 1j else 0)
    return [*single, whole / np.sqrt(max(np.size(value), 1))]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("modes", "fraction"), [(1, 1.0), (3, 0.4)])
def test_gradients_agree_with_finite_differences(name, modes, fraction):
    likelihood = likelihood_of(modes, fraction)
    parameters = parameters_of(likelihood, double=True)
    gradient = getattr(likelihood.evaluate(parameters, [name])[1], name)
    for direction in directions(name, getattr(parameters, name)):
        found = slope(likelihood, parameters, name, direction, 1e-5)
        assert found == pytest.approx(inner(direction, gradient), rel=1e-5)
        assert abs(found) > 1e-3


@pytest.mark.parametrize("detector", [DETECTOR, Detector()], ids=["detector", "perfect"])
def test_a_number_is_a_background_too(detector):
    likelihood = likelihood_of(fraction=0.4, detector=detector)
    number, flat = (parameters_of(likelihood, background=value) for value in (0.25, np.full((N, N), 0.25, np.float32)))
    (value, gradients), (other, others) = (likelihood.evaluate(each) for each in (number, flat))
    assert value == pytest.approx(other, rel=1e-6)
    assert gradients.background == pytest.approx(float(others.background.sum()), rel=1e-5)
    found = slope(likelihood, parameters_of(likelihood, double=True, background=0.25), "background", 1.0, 1e-2)
    assert found == pytest.approx(gradients.background, rel=1e-3)


def test_single_precision_agrees_with_double_precision():
    likelihood = likelihood_of()
    single, double = (likelihood.evaluate(parameters_of(likelihood, double)) for double in (False, True))
    assert single[0] == pytest.approx(double[0], rel=1e-5)
    for name in NAMES:
        found, exact = (getattr(gradients, name) for _, gradients in (single, double))
        assert np.abs(found - exact).max() < 1e-4 * np.abs(exact).max()
    assert (single[1].object.dtype, single[1].probe.dtype) == (np.complex64, np.complex64)


def test_what_is_not_wanted_is_none_and_changes_nothing_else():
    likelihood = likelihood_of()
    parameters = parameters_of(likelihood)
    value, every = likelihood.evaluate(parameters)
    for name in NAMES:
        alone, gradients = likelihood.evaluate(parameters, [name])
        assert [other for other in NAMES if getattr(gradients, other) is not None] == [name]
        assert alone == pytest.approx(value, rel=1e-6)  # by other passes
        found, wanted = getattr(gradients, name), getattr(every, name)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    assert likelihood.evaluate(parameters, ())[0] == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("fraction", [1.0, 0.4])
def test_with_all_as_recorded_it_is_the_likelihood_of_the_object(fraction):
    counts, probe = counts_of(), probe_of(3)
    joint, known = JointLikelihood(counts, probe, fraction, margin_px=0), Likelihood(counts, probe, fraction)
    assert (joint.shape, joint.origin_px, joint.n_values) == (known.shape, known.origin_px, known.n_values)
    obj = parameters_of(joint).object
    (value, gradients), (expected, gradient) = joint.evaluate(joint.parameters(obj), ["object"]), known(obj)
    assert value == pytest.approx(expected, rel=1e-6)
    assert np.abs(gradients.object - gradient).max() < 1e-5 * np.abs(gradient).max()
    softer = joint.with_background(0.5), known.with_background(0.5)
    assert softer[0].background == softer[1].background
    assert softer[0].evaluate(joint.parameters(obj), ())[0] == pytest.approx(softer[1](obj)[0], rel=1e-6)


def test_exposures_add_up_to_the_value():
    likelihood = likelihood_of()
    parameters = parameters_of(likelihood)
    values = likelihood.per_exposure(parameters)
    assert values.shape == (M,)
    assert values.sum() == pytest.approx(likelihood.evaluate(parameters, ())[0], rel=1e-6)
    chosen = np.array([4])
    alone = JointLikelihood(counts_of().select(chosen), probe_of(3), margin_px=0)
    row, column = np.subtract(alone.origin_px, likelihood.origin_px)
    patch = parameters.object[row : row + N, column : column + N]
    own = replace(parameters, object=patch, shifts=parameters.shifts[:, chosen], flux=parameters.flux[chosen])
    assert alone.evaluate(own, ())[0] == pytest.approx(values[4], rel=1e-6)


def test_a_shift_moves_the_probe_over_the_object():
    """The counts of moved positions are those that the forward model predicts there."""
    likelihood = likelihood_of()
    obj, shifts = parameters_of(likelihood, double=True).object, np.array([[0.7] * M, [-1.3] * M])
    mean = predict_intensity(obj, probe_of(3), X - 1.3, Y + 0.7, likelihood.origin_px)
    exact = likelihood_of(frames=DETECTOR.expected_counts(mean) + BACKGROUND)
    parameters = replace(exact.parameters(obj), probe=exact.probe.astype(np.complex128), shifts=shifts)
    assert exact.evaluate(parameters, ())[0] < 1e-4 < 1 < exact.evaluate(exact.parameters(obj), ())[0]


def test_windows_follow_the_positions_and_change_only_rounding_errors():
    """No wave wraps around at the border: further than 12 px from the middle, its amplitude is below 1e-7."""
    frames = np.random.default_rng(2).poisson(1.0, (M, 32, 32)).astype(float)
    likelihood = JointLikelihood(counts_of(frames=frames, detector=Detector(exposure_scale=SCALE)), probe_of(3, 32))
    shifts = np.random.default_rng(5).uniform(-2.5, 2.5, (2, M))
    parameters = parameters_of(likelihood, double=True, shifts=shifts, background=0.1)
    parameters = replace(parameters, probe=likelihood.probe.astype(np.complex128))
    moved = likelihood.anchored(shifts)
    np.testing.assert_array_equal(moved.top + 16, np.floor(Y + shifts[0] + 0.5))
    assert (moved.corners != likelihood.corners).any(axis=1).all()
    np.testing.assert_array_equal(moved.anchored(0 * shifts).corners, likelihood.corners)
    (value, gradients), (other, others) = (each.evaluate(parameters) for each in (likelihood, moved))
    assert value == pytest.approx(other, rel=1e-7)
    for name in (
        "object",
        "shifts",
        "flux",
        "background",
    ):  # at the border, the probe's sees another part of the object
        one, two = getattr(gradients, name), getattr(others, name)
        assert np.abs(one - two).max() < 1e-6 * np.abs(two).max(), name
    light = [each.illumination(parameters) for each in (likelihood, moved)]
    assert np.abs(light[0] - light[1]).max() < 1e-6 * light[1].max()


def test_windows_that_leave_the_canvas_are_named():
    likelihood = likelihood_of()
    shifts = np.zeros((2, M))
    shifts[0, Y.argmax()], shifts[1, X.argmin()] = MARGIN + 1, -MARGIN - 1
    named = sorted({int(Y.argmax()), int(X.argmin())})
    with pytest.raises(ValueError, match=rf"exposures \[{', '.join(map(str, named))}\]: .* at most 4 px outside"):
        likelihood.anchored(shifts)
    with pytest.raises(ValueError, match="nan"):
        likelihood.anchored(np.nan * shifts)


@pytest.mark.parametrize("garbage", [0.0, 1e6])
def test_what_stands_in_bad_pixels_changes_no_bit(garbage):
    dirty = frames_of(3)
    dirty[:, BAD] = garbage
    clean, other = likelihood_of(), likelihood_of(frames=dirty)
    parameters = parameters_of(clean)
    (value, gradients), (other_value, others) = clean.evaluate(parameters), other.evaluate(parameters)
    assert value == other_value
    for name in NAMES:
        np.testing.assert_array_equal(getattr(gradients, name), getattr(others, name))
    np.testing.assert_array_equal(clean.per_exposure(parameters), other.per_exposure(parameters))
    np.testing.assert_array_equal(clean.shift_information(parameters), other.shift_information(parameters))
    assert (gradients.background[BAD] == 0).all()
    assert (gradients.background[~BAD] != 0).all()


@pytest.mark.parametrize(("block_size", "at_once"), [(1, 64), (64, 64), (3, 2), (4, 1)])
def test_the_size_of_blocks_does_not_matter(block_size, at_once, monkeypatch):
    likelihood, other = likelihood_of(), likelihood_of(block_size=block_size)
    parameters = parameters_of(likelihood)
    value, gradients = likelihood.evaluate(parameters)
    monkeypatch.setattr(joint_likelihood_module, "PIECE_PIXELS", at_once * 3 * N * N)
    other_value, others = other.evaluate(parameters)
    assert value == pytest.approx(other_value, rel=1e-12)
    for name in NAMES:
        one, two = getattr(gradients, name), getattr(others, name)
        assert np.abs(one - two).max() < 1e-5 * np.abs(one).max()


def test_the_information_of_a_shift_is_that_of_the_change_of_mean_counts():
    """Σ (∂I/∂s_a) (∂I/∂s_b) / I, with ∂I/∂s by finite differences of the forward model; in dim pixels, I is larger."""
    likelihood, step = likelihood_of(detector=Detector(bad_pixels=BAD, exposure_scale=SCALE)), 1e-4
    parameters = likelihood.parameters(parameters_of(likelihood, double=True).object)
    parameters = replace(parameters, probe=0.2 * likelihood.probe)

    def mean(down, across):
        intensity = predict_intensity(parameters.object, 0.2 * probe_of(3), X + across, Y + down, likelihood.origin_px)
        return SCALE[:, None, None] * intensity + BACKGROUND

    assert 0.1 < np.mean(mean(0, 0) < MIN_COUNTS) < 0.9
    changes = [(mean(a, b) - mean(-a, -b))[:, ~BAD] / (2 * step) for a, b in ((step, 0), (0, step))]
    divisor = np.maximum(mean(0, 0), MIN_COUNTS)[:, ~BAD]
    expected = np.array([[(a * b / divisor).sum(1) for a in changes] for b in changes]).transpose(2, 0, 1)
    np.testing.assert_allclose(likelihood.shift_information(parameters), expected, rtol=1e-4, atol=1e-4)


def test_the_canvas_is_lit_by_moved_beams_of_their_own_flux():
    likelihood = likelihood_of()
    parameters = parameters_of(likelihood, double=True, shifts=np.full((2, M), [[0.3], [-0.4]]))
    moved = likelihood.anchored(parameters.shifts)
    expected = illumination(
        parameters.probe, X - 0.4, Y + 0.3, likelihood.shape, likelihood.origin_px, SCALE * parameters.flux
    )
    np.testing.assert_allclose(moved.illumination(parameters), expected, atol=1e-9 * expected.max())


def test_a_device_computes_the_same():
    likelihood, device = likelihood_of(), StrictDevice()
    other, parameters = likelihood_of(device=device), parameters_of(likelihood)
    there = parameters.transferred(device.to_device)
    (value, gradients), (other_value, others) = likelihood.evaluate(parameters), other.evaluate(there)
    assert other_value == pytest.approx(value, rel=1e-6)
    pairs = [(getattr(gradients, name), getattr(others, name)) for name in NAMES]
    coefficients = np.arange(9.0).reshape(3, 3)
    here, far = SmoothBackground(N, 3), SmoothBackground(N, 3, device)
    pairs.append((here.adjoint(here(coefficients)), far.adjoint(far(device.to_device(coefficients)))))
    moved, other_moved = likelihood.anchored(parameters.shifts), other.anchored(there.shifts)
    for name in ("per_exposure", "shift_information", "illumination"):
        pairs.append((getattr(moved, name)(parameters), getattr(other_moved, name)(there)))
    for here, far in pairs:
        far = far if isinstance(far, np.ndarray) else device.to_host(far)  # numbers of exposures are on the host
        np.testing.assert_allclose(far, here, rtol=1e-4, atol=1e-5 * np.abs(here).max())


def test_refusals_name_parameter_and_shape():
    likelihood = likelihood_of()
    parameters = parameters_of(likelihood)
    with pytest.raises(ValueError, match="gradients of position; wanted some of object, probe, shifts"):
        likelihood.evaluate(parameters, ["position"])
    for name, wrong in (("shifts", (M, 2)), ("object", (N, N)), ("background", (1, N)), ("probe", (3, N, N + 2))):
        with pytest.raises(ValueError, match=rf"{name}: an array of shape \({wrong[0]}, .*wanted"):
            likelihood.evaluate(replace(parameters, **{name: np.zeros(wrong)}))
