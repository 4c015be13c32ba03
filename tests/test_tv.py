"""TV-MAP: the likelihood and its gradients, what minimizes it, and the choice of the prior's weight."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from ptycho.data.object_files import Reconstruction
from ptycho.data.tiles import cut_tiles
from ptycho.physics.forward import illumination, predict_intensity
from ptycho.reconstruction import optimize, tv
from ptycho.reconstruction.counts import Counts, split_counts
from ptycho.reconstruction.likelihood import BACKGROUND, Likelihood
from ptycho.reconstruction.optimize import Preconditioner, minimize, minimize_slow_phase, total_variation
from ptycho.reconstruction.tv import reconstruct
from ptycho.reconstruction.tv_weight import TVOptions, choose_tv_weight, tv_weights
from tests.conftest import error_of, write_scan

OPTIONS = TVOptions(lambda_max=64, lambda_min=1, iterations=15, final_iterations=30, fit_fraction=0.8, tile_px=512)


def counts_of(scan):
    return replace(Counts.of(scan, np.arange(len(scan))), block_size=20)


def complex_noise(shape, seed, level=0.0):
    rng = np.random.default_rng(seed)
    return (level + 0.1 * rng.normal(size=shape) + 0.1j * rng.normal(size=shape)).astype(np.complex64)


def inner(gradient, direction):
    return float(np.sum(gradient.real * direction.real + gradient.imag * direction.imag, dtype=np.float64))


def test_the_likelihood_is_that_of_the_forward_model(scan):
    likelihood = Likelihood(counts_of(scan), scan.probe)
    top, left = likelihood.origin_px
    height, width = likelihood.shape
    obj = scan.object[top : top + height, left : left + width]
    predicted = predict_intensity(obj, scan.probe, scan.xcoords, scan.ycoords, likelihood.origin_px)
    counts = np.square(scan.diffraction[:], dtype=np.float64)
    assert likelihood.noise_level() == pytest.approx(np.sqrt(counts.mean()), rel=1e-6)
    smoothed = likelihood.with_background(0.1)
    for variant, background in ((likelihood, BACKGROUND), (smoothed, 0.1 * np.sqrt(counts.mean()))):
        mean = predicted + background
        terms = mean - counts + counts * np.log(np.maximum(counts, 1e-12) / mean)
        assert variant(obj)[0] == pytest.approx(terms.sum(), rel=1e-4)
    assert likelihood.with_background(100.0).background == pytest.approx(0.3 * counts.mean(), rel=1e-6)
    incident = illumination(scan.probe, scan.xcoords, scan.ycoords, likelihood.shape, likelihood.origin_px)
    np.testing.assert_allclose(likelihood.illumination(), incident, rtol=1e-4, atol=1e-5 * incident.max())


def test_a_part_of_the_photons_is_predicted_by_a_dimmer_probe(scan):
    """`fraction` scales the intensity, and with it the illumination."""
    whole, part = (Likelihood(counts_of(scan), scan.probe, fraction) for fraction in (1.0, 0.25))
    np.testing.assert_allclose(part.illumination(), 0.25 * whole.illumination(), rtol=1e-5, atol=1e-3)
    obj = complex_noise(whole.shape, 0, 0.8)
    assert whole(0.5 * obj)[0] == pytest.approx(part(obj)[0], rel=1e-5)


def test_the_mean_transmittance_is_the_amplitude_of_a_flat_object_with_as_many_photons(scan):
    counts, positions = counts_of(scan), (scan.xcoords, scan.ycoords)
    flat = predict_intensity(np.full(scan.object.shape, 0.6, np.complex64), scan.probe, *positions)
    dim = Counts(lambda exposures: flat[exposures], *positions)
    assert dim.mean_transmittance(scan.probe) == pytest.approx(0.6, rel=1e-5)
    assert counts.photons() == pytest.approx(np.square(scan.diffraction[:], dtype=np.float64).sum())
    assert counts.select(np.array([3, 4])).photons() == pytest.approx(counts.frames(np.array([3, 4])).sum())


def test_the_last_evaluation_is_kept(scan):
    def evaluations(obj):
        before = len(computed)
        value, gradient = likelihood(obj)
        fresh = Likelihood(counts_of(scan), scan.probe)
        fresh.background = likelihood.background
        assert value == fresh(obj)[0]
        np.testing.assert_array_equal(gradient, fresh(obj)[1])
        return len(computed) - before

    computed, likelihood = [], Likelihood(counts_of(scan), scan.probe)
    evaluate, obj = likelihood.evaluate, complex_noise(likelihood.shape, 0, 0.8)
    likelihood.evaluate = lambda field: computed.append(1) or evaluate(field)
    assert [evaluations(obj), evaluations(obj.copy())] == [1, 0]
    obj[0, 0] += 1  # in place
    assert [evaluations(obj), evaluations(obj)] == [1, 0]
    likelihood.background *= 10
    assert [evaluations(obj), evaluations(obj)] == [1, 0]
    with pytest.raises(ValueError, match="read-only"):
        likelihood(obj)[1][0, 0] = 0


def test_the_gradient_at_a_flat_object_of_a_bright_scan_is_not_rounding_error(tmp_path):
    """Outside the pupil of a flat object almost nothing is predicted, but photons were counted there."""
    scan = write_scan(tmp_path / "bright.npz", columns=3, rows=3, dose=1_000_000)
    likelihood = Likelihood(counts_of(scan), scan.probe)
    flat = np.full(likelihood.shape, 0.8, np.complex64)
    gradient = likelihood(flat)[1]
    direction, step = gradient / np.abs(gradient).max(), 1e-4
    slope = (likelihood(flat + step * direction)[0] - likelihood(flat - step * direction)[0]) / (2 * step)
    assert inner(gradient, direction) == pytest.approx(slope, rel=0.02)


def test_gradients_agree_with_finite_differences(scan):
    likelihood = Likelihood(counts_of(scan), scan.probe)
    obj = complex_noise(likelihood.shape, 0, 0.8)
    gradient = likelihood(obj)[1]
    for seed in range(2):  # along the gradient, and halfway to a random direction: slopes well above rounding errors
        direction = gradient / np.abs(gradient).max() + 5 * seed * complex_noise(likelihood.shape, seed)
        step = 1e-5
        slope = (likelihood(obj + step * direction)[0] - likelihood(obj - step * direction)[0]) / (2 * step)
        assert inner(gradient, direction) == pytest.approx(slope, rel=0.01)
    obj, direction, step = obj.astype(complex), complex_noise(obj.shape, 1).astype(complex), 1e-5
    slope = (total_variation(obj + step * direction)[0] - total_variation(obj - step * direction)[0]) / (2 * step)
    assert inner(total_variation(obj)[1], direction) == pytest.approx(slope, rel=1e-3)


def test_the_total_variation_of_an_edge_is_its_length_times_its_height():
    obj = np.zeros((20, 30), np.complex64)
    obj[:, 15:] = 3 + 4j
    assert total_variation(obj)[0] == pytest.approx(20 * 5, rel=0.01)  # worked out by hand: 20 pixels, |3 + 4i|
    assert total_variation(np.full((9, 9), 2j, np.complex64))[0] == 0


@pytest.mark.parametrize("shape", [(24, 18), (23, 29)], ids=["quick FFT", "primes"])
def test_the_preconditioner_and_its_adjoint_agree(shape):
    preconditioner = Preconditioner(np.random.default_rng(0).random(shape) + 0.1)
    z = np.random.default_rng(1).normal(size=2 * shape[0] * shape[1])
    field = complex_noise(shape, 2)
    assert preconditioner.step(z).shape == shape
    assert inner(preconditioner.step(z), field) == pytest.approx(float(preconditioner.adjoint(field) @ z), rel=1e-4)


def test_streamed_and_cached_frames_give_the_same(scan):
    cached, streamed = Likelihood(counts_of(scan), scan.probe), Likelihood(counts_of(scan), scan.probe, cache_bytes=0)
    for seed in range(2):  # another object, or the last result would do
        obj = complex_noise(cached.shape, seed, 0.8)
        (value, gradient), (streamed_value, streamed_gradient) = cached(obj), streamed(obj)
        assert value == streamed_value
        np.testing.assert_array_equal(gradient, streamed_gradient)
    assert sorted(cached._cache) == [0, 20, 40]
    assert streamed._cache is None


def test_split_photons_add_up_and_the_same_seed_repeats_the_split(scan):
    counts = counts_of(scan)
    first, second = split_counts(counts, 0.8, seed=3)
    block = np.arange(20, 40)
    whole = counts.frames(block)
    np.testing.assert_allclose(first.frames(block) + second.frames(block), whole, atol=1e-2)
    np.testing.assert_array_equal(first.frames(block[::3]), first.frames(block)[::3])  # whatever is read with them
    assert (split_counts(counts, 0.8, seed=4)[0].frames(block) != first.frames(block)).any()
    assert first.frames(block).sum() / whole.sum() == pytest.approx(0.8, rel=0.01)


def test_tv_weights_halve_from_lambda_max_and_start_higher_for_bright_scans():
    dim, bright = np.full((4, 4), 10.0), np.full((4, 4), 500.0)
    assert tv_weights(OPTIONS, dim).tolist() == [64, 32, 16, 8, 4, 2, 1]
    assert tv_weights(OPTIONS, bright).tolist() == [256, 128, 64, 32, 16, 8, 4, 2, 1]  # half of the illumination is 250


def test_the_prior_beats_plain_likelihood_and_stays_on_its_pixels(scan):
    result = reconstruct(counts_of(scan), scan.probe, OPTIONS, seed=0)
    again = reconstruct(counts_of(scan), scan.probe, OPTIONS, seed=0)
    np.testing.assert_array_equal(result.object, again.object)
    assert result.cpu_s > 0
    weight = result.chosen["tv_weight"]
    assert OPTIONS.lambda_min <= weight <= OPTIONS.lambda_max
    deviances = result.history.dropna(subset=["validation_deviance"]).set_index("tv_weight")["validation_deviance"]
    assert deviances.idxmin() == weight

    likelihood = Likelihood(counts_of(scan), scan.probe)
    np.testing.assert_allclose(result.illumination, likelihood.illumination())
    plain = minimize(likelihood, np.full(likelihood.shape, 0.8, np.complex64), 0.0, 60)[0]
    plain = Reconstruction(object=plain, illumination=likelihood.illumination(), origin_px=likelihood.origin_px)
    error, shift_px = error_of(result, scan)
    assert error < 0.9 * error_of(plain, scan)[0]
    assert shift_px < 0.05  # golden: the same pixels as the simulator's


@pytest.mark.parametrize("slope", [0.0, 0.013])
def test_tiles_join_without_a_seam(tmp_path, monkeypatch, slope):
    """Each tile is reconstructed by itself: with synchronized phases they give what the whole scan at once does."""
    scan = write_scan(tmp_path / "long.npz", columns=24, rows=4, slope=slope)
    counts, options = counts_of(scan), replace(OPTIONS, lambda_min=8, tile_px=70)
    tiles = cut_tiles(counts.xcoords, counts.ycoords, options.tile_px, 64)
    assert [len(tile.exposures) < len(counts) for tile in tiles] == [True] * 3

    def choose(counts, probe, transmittance, options, *, seed, rows):
        return 8.0, np.full(Likelihood(counts, probe).shape, transmittance, np.complex64)

    monkeypatch.setattr(tv, "choose_tv_weight", choose)  # in the whole and in a tile it may differ by √2
    whole = reconstruct(counts, scan.probe, replace(options, tile_px=512), seed=0)
    tiled = reconstruct(counts, scan.probe, options, seed=0)
    assert tiled.origin_px == whole.origin_px
    lit = whole.illumination > 0.3 * whole.illumination.max()
    turn = np.vdot(tiled.object[lit], whole.object[lit])  # the global phase, which is free
    turned = tiled.object * turn / abs(turn)
    difference = np.linalg.norm((turned - whole.object)[lit]) / np.linalg.norm(whole.object[lit])
    columns, phases = np.arange(whole.object.shape[1]), []
    for first in range(0, len(columns), 60):
        part = lit & (columns >= first) & (columns < first + 60)
        if part.any():
            phases.append(np.angle(np.vdot(whole.object[part], turned[part])))
    assert np.ptp(phases) < 0.1
    assert difference < 0.05


@pytest.mark.parametrize("spacing", [1, 2])
def test_slow_phase_steps_find_a_ramp_that_plain_steps_do_not(tmp_path, spacing):
    scan = write_scan(tmp_path / "ramp.npz", columns=24, rows=4, slope=0.013)
    counts = Counts.of(scan, np.arange(0, len(scan), spacing))
    likelihood = Likelihood(counts, scan.probe)
    flat = np.full(likelihood.shape, 0.8, np.complex64)
    start, *_ = minimize(likelihood, flat, 32.0, 10)
    plain, *_ = minimize(likelihood, start, 32.0, 16)
    phase = minimize_slow_phase(likelihood, start, 8)
    (top, left), (height, width), incident = likelihood.origin_px, likelihood.shape, likelihood.illumination()
    truth = scan.object[top : top + height, left : left + width]
    lit = incident > 0.3 * np.median(incident[incident > 1e-3 * incident.max()])

    def misfit(obj):
        factor = np.vdot(obj[lit], truth[lit]) / np.vdot(obj[lit], obj[lit])
        return np.linalg.norm((factor * obj - truth)[lit]) / np.linalg.norm(truth[lit])

    assert likelihood(phase)[0] < likelihood(start)[0]
    np.testing.assert_allclose(np.abs(phase), np.abs(start), rtol=1e-5)
    assert misfit(phase) < 0.5 * misfit(plain)


def test_the_gradient_over_the_slow_phase_agrees_with_finite_differences(scan, monkeypatch):
    """Of the function that SciPy is given."""
    likelihood = Likelihood(Counts.of(scan, np.arange(6)), scan.probe)
    given = {}

    def keep(evaluate, start, **_):
        given["evaluate"] = evaluate
        return SimpleNamespace(x=start)

    monkeypatch.setattr(optimize, "minimize_lbfgs", keep)
    obj = complex_noise(likelihood.shape, 3, 0.8)
    minimize_slow_phase(likelihood, obj, 4)
    evaluate = given["evaluate"]
    z, along = np.random.default_rng(4).normal(size=(2, obj.size)) * 0.1
    _, gradient = evaluate(z)
    step = 1e-2
    slope = (evaluate(z + step * along)[0] - evaluate(z - step * along)[0]) / (2 * step)
    assert slope == pytest.approx(float(gradient @ along), rel=2e-2)


def test_exposures_with_counts_that_are_not_finite_are_named(scan):
    frames = np.array(scan.diffraction[:8])
    frames[5, 3, 3] = np.nan
    broken = replace(scan, diffraction=frames)
    with pytest.raises(ValueError, match=r"exposures \[5\]: counts that are not finite numbers"):
        reconstruct(Counts.of(broken, np.array([1, 2, 5])), scan.probe, OPTIONS, seed=0)


def test_a_tv_weight_at_a_bound_is_warned_of(scan, log):
    options = replace(OPTIONS, lambda_min=64, iterations=3)
    weight, _ = choose_tv_weight(counts_of(scan), scan.probe, 0.8, options, seed=0, rows=[])
    assert weight == 64
    assert log.messages == ["The TV weight reached its lower bound (64); lower tv.lambda_min."]
    log.clear()
    dark, probe = split_counts(counts_of(scan), 1e-3, seed=0)[0], np.sqrt(1e-3) * scan.probe
    options = replace(OPTIONS, lambda_max=0.05, lambda_min=0.0125, iterations=3)
    weight, _ = choose_tv_weight(dark, probe, 0.8, options, seed=0, rows=[])
    assert weight == tv_weights(options, Likelihood(dark, probe).illumination())[0]
    assert log.messages == ["The TV weight reached its upper bound (0.05); raise tv.lambda_max."]


def test_no_tv_weight_is_warned_of_within_the_bounds(scan, log):
    weight, _ = choose_tv_weight(counts_of(scan), scan.probe, 0.8, OPTIONS, seed=0, rows=[])
    assert OPTIONS.lambda_min < weight < OPTIONS.lambda_max
    assert not log.records
