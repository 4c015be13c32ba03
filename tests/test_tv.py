from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from ptycho.data.tiles import cut_tiles
from ptycho.physics.forward import illumination, predict_intensity
from ptycho.reconstruction import tv
from ptycho.reconstruction.likelihood import BACKGROUND, Counts, Likelihood, split_counts
from ptycho.reconstruction.optimize import Preconditioner, minimize, minimize_slow_phase, total_variation
from ptycho.reconstruction.tv import TVOptions, choose_tv_weight, reconstruct, tv_weights
from ptycho.scoring.metrics import error
from ptycho.scoring.registration import align
from tests.conftest import write_scan

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
    assert likelihood.noise() == pytest.approx(np.sqrt(counts.mean()), rel=1e-6)
    for soft, background in ((likelihood, BACKGROUND), (likelihood.with_background(0.1), 0.1 * np.sqrt(counts.mean()))):
        mean = predicted + background
        terms = mean - counts + counts * np.log(np.maximum(counts, 1e-12) / mean)
        assert soft(obj)[0] == pytest.approx(terms.sum(), rel=1e-4)
    assert likelihood.with_background(100.0).background == pytest.approx(0.3 * counts.mean(), rel=1e-6)


def test_the_same_object_asked_for_again_is_not_computed_again(scan):
    def asked(obj):
        before = len(made)
        value, gradient = likelihood(obj)
        fresh = Likelihood(counts_of(scan), scan.probe)
        fresh.background = likelihood.background
        assert value == fresh(obj)[0]
        np.testing.assert_array_equal(gradient, fresh(obj)[1])
        return len(made) - before

    made, likelihood = [], Likelihood(counts_of(scan), scan.probe)
    evaluate, obj = likelihood._evaluate, complex_noise(likelihood.shape, 0, 0.8)
    likelihood._evaluate = lambda field: made.append(1) or evaluate(field)
    assert [asked(obj), asked(obj.copy())] == [1, 0]
    obj[0, 0] += 1  # in place
    assert [asked(obj), asked(obj)] == [1, 0]
    likelihood.background *= 10
    assert [asked(obj), asked(obj)] == [1, 0]
    with pytest.raises(ValueError, match="read-only"):
        likelihood(obj)[1][0, 0] = 0


def test_the_slope_at_a_flat_object_of_a_bright_scan_is_no_rounding_error(tmp_path):
    """Behind a beam with an edge next to nothing is predicted where photons were counted."""
    scan = write_scan(tmp_path / "bright.npz", columns=3, rows=3, dose=1_000_000)
    likelihood = Likelihood(counts_of(scan), scan.probe)
    flat = np.full(likelihood.shape, 0.8, np.complex64)
    gradient = likelihood(flat)[1]
    direction, step = gradient / np.abs(gradient).max(), 1e-4
    slope = (likelihood(flat + step * direction)[0] - likelihood(flat - step * direction)[0]) / (2 * step)
    assert inner(gradient, direction) == pytest.approx(slope, rel=0.02)


def test_gradients_are_those_of_finite_differences(scan):
    likelihood = Likelihood(counts_of(scan), scan.probe)
    obj = complex_noise(likelihood.shape, 0, 0.8)
    gradient = likelihood(obj)[1]
    for seed in range(2):  # steepest descent, and halfway to a random direction: slopes that rounding does not hide
        direction = gradient / np.abs(gradient).max() + 5 * seed * complex_noise(likelihood.shape, seed)
        step = 1e-5
        slope = (likelihood(obj + step * direction)[0] - likelihood(obj - step * direction)[0]) / (2 * step)
        assert inner(gradient, direction) == pytest.approx(slope, rel=0.01)
    obj, direction, step = obj.astype(complex), complex_noise(obj.shape, 1).astype(complex), 1e-5
    slope = (total_variation(obj + step * direction)[0] - total_variation(obj - step * direction)[0]) / (2 * step)
    assert inner(total_variation(obj)[1], direction) == pytest.approx(slope, rel=1e-3)


def test_the_prior_of_an_edge_is_its_length_times_its_height():
    obj = np.zeros((20, 30), np.complex64)
    obj[:, 15:] = 3 + 4j
    assert total_variation(obj)[0] == pytest.approx(20 * 5, rel=0.01)  # worked out by hand: 20 pixels, |3 + 4i|
    assert total_variation(np.full((9, 9), 2j, np.complex64))[0] == 0


def test_variables_and_their_adjoint_agree():
    light = np.random.default_rng(0).random((24, 18)) + 0.1
    variables = Preconditioner(light)
    z = np.random.default_rng(1).normal(size=2 * light.size)
    field = complex_noise(light.shape, 2)
    pulled = variables.adjoint(field)
    assert inner(variables.step(z), field) == pytest.approx(float(pulled @ z), rel=1e-4)


def test_streamed_and_kept_frames_give_the_same(scan):
    obj = complex_noise(Likelihood(counts_of(scan), scan.probe).shape, 0, 0.8)
    kept, streamed = Likelihood(counts_of(scan), scan.probe), Likelihood(counts_of(scan), scan.probe, cache_bytes=0)
    for _ in range(2):
        first, second = kept(obj), streamed(obj)
        assert first[0] == second[0]
        np.testing.assert_array_equal(first[1], second[1])
    assert streamed._kept is None


def test_thinned_photons_add_up_and_are_dealt_the_same_way_again(scan):
    counts = counts_of(scan)
    first, second = split_counts(counts, 0.8, seed=3)
    block = np.arange(20, 40)
    whole = counts.frames(block)
    np.testing.assert_allclose(first.frames(block) + second.frames(block), whole, atol=1e-2)
    np.testing.assert_array_equal(first.frames(block), first.frames(block))
    assert first.frames(block).sum() / whole.sum() == pytest.approx(0.8, rel=0.01)


def test_strengths_are_halved():
    dim, bright = np.full((4, 4), 10.0), np.full((4, 4), 500.0)
    assert tv_weights(OPTIONS, dim).tolist() == [64, 32, 16, 8, 4, 2, 1]
    assert tv_weights(OPTIONS, bright).tolist() == [256, 128, 64, 32, 16, 8, 4, 2, 1]  # from half of the light on


def test_the_prior_beats_plain_likelihood_and_stays_on_its_pixels(scan):
    found = reconstruct(counts_of(scan), scan.probe, OPTIONS, seed=0)
    again = reconstruct(counts_of(scan), scan.probe, OPTIONS, seed=0)
    np.testing.assert_array_equal(found.object, again.object)
    assert OPTIONS.lambda_min / 2 <= found.tv_weight <= 2 * OPTIONS.lambda_max
    chosen = found.history.dropna(subset=["validation_deviance"]).set_index("tv_weight")["validation_deviance"]
    assert chosen.idxmin() == found.tv_weight

    likelihood = Likelihood(counts_of(scan), scan.probe)
    light = illumination(scan.probe, scan.xcoords, scan.ycoords, likelihood.shape, likelihood.origin_px)
    start = np.full(likelihood.shape, 0.8, np.complex64)
    plain, _, _ = minimize(likelihood, start, 0.0, 60)
    top, left = found.origin_px
    truth = scan.object[top : top + light.shape[0], left : left + light.shape[1]]
    inside = np.s_[30 : light.shape[0] - 30, 30 : light.shape[1] - 30]
    errors, gauge = {}, None
    for name, obj in (("plain", plain), ("tv", found.object)):
        aligned, gauge = align(obj, truth, light, inside)
        errors[name] = error(aligned, truth[inside])
    assert errors["tv"] < 0.9 * errors["plain"]
    assert gauge.shift_px < 0.05  # golden: the same pixels as the simulator's


@pytest.mark.parametrize("slope", [0.0, 0.013])
def test_tiles_join_without_a_seam(tmp_path, monkeypatch, slope):
    """Each tile is reconstructed by itself: global phases are synchronized, the object is that of the whole at once."""
    scan = write_scan(tmp_path / "long.npz", columns=24, rows=4, slope=slope)
    counts, options = counts_of(scan), replace(OPTIONS, lambda_min=8, tile_px=70)
    tiles = cut_tiles(counts.xcoords, counts.ycoords, options.tile_px, 64)
    assert [len(tile.exposures) < len(counts) for tile in tiles] == [True] * 3

    def choose(counts, probe, level, options, *, seed, rows):
        return 8.0, np.full(Likelihood(counts, probe).shape, level, np.complex64)

    monkeypatch.setattr(tv, "choose_tv_weight", choose)  # in the whole and in a tile it may differ by √2
    whole = reconstruct(counts, scan.probe, replace(options, tile_px=512), seed=0)
    tiled = reconstruct(counts, scan.probe, options, seed=0)
    assert tiled.origin_px == whole.origin_px
    lit = whole.weight > 0.3 * whole.weight.max()
    turn = np.vdot(tiled.object[lit], whole.object[lit])  # the one global phase that nothing tells
    found = tiled.object * turn / abs(turn)
    difference = np.linalg.norm((found - whole.object)[lit]) / np.linalg.norm(whole.object[lit])
    columns, phases = np.arange(whole.object.shape[1]), []
    for first in range(0, len(columns), 60):
        part = lit & (columns >= first) & (columns < first + 60)
        if part.any():
            phases.append(np.angle(np.vdot(whole.object[part], found[part])))
    assert np.ptp(phases) < 0.1
    assert difference < 0.05


@pytest.mark.parametrize("spacing", [1, 2])
def test_steps_in_the_slow_phase_find_a_ramp_that_others_need_hundreds_for(tmp_path, spacing):
    scan = write_scan(tmp_path / "ramp.npz", columns=24, rows=4, slope=0.013)
    counts = Counts.of(scan, np.arange(0, len(scan), spacing))
    likelihood = Likelihood(counts, scan.probe)
    flat = np.full(likelihood.shape, 0.8, np.complex64)
    start, *_ = minimize(likelihood, flat, 32.0, 10)
    steps, *_ = minimize(likelihood, start, 32.0, 16)
    phase = minimize_slow_phase(likelihood, start, 8)
    (top, left), light = likelihood.origin_px, likelihood.illumination()
    truth = scan.object[top : top + light.shape[0], left : left + light.shape[1]]
    lit = light > 0.3 * np.median(light[light > 1e-3 * light.max()])

    def wrong(obj):
        factor = np.vdot(obj[lit], truth[lit]) / np.vdot(obj[lit], obj[lit])
        return np.linalg.norm((factor * obj - truth)[lit]) / np.linalg.norm(truth[lit])

    assert likelihood(phase)[0] < likelihood(start)[0]
    np.testing.assert_allclose(np.abs(phase), np.abs(start), rtol=1e-5)
    assert wrong(phase) < 0.5 * wrong(steps)


def test_the_gradient_over_the_slow_phase_is_that_of_the_likelihood(scan, monkeypatch):
    """Finite differences of what the solver is given."""
    likelihood = Likelihood(Counts.of(scan, np.arange(6)), scan.probe)
    seen = {}
    monkeypatch.setattr(
        descent, "minimize", lambda evaluate, start, **_: seen.update(evaluate=evaluate) or SimpleNamespace(x=start)
    )
    obj = complex_noise(likelihood.shape, 3, 0.8)
    minimize_slow_phase(likelihood, obj, 4)
    z, along = np.random.default_rng(4).normal(size=(2, obj.size)) * 0.1
    _, gradient = seen["evaluate"](z)
    step = 1e-2
    slope = (seen["evaluate"](z + step * along)[0] - seen["evaluate"](z - step * along)[0]) / (2 * step)
    assert slope == pytest.approx(float(gradient @ along), rel=2e-2)


def test_a_sweep_sees_every_exposure_once(scan):
    likelihood, rng = Likelihood(counts_of(scan), scan.probe), np.random.default_rng(0)
    obj = complex_noise(likelihood.shape, 1, level=0.8)
    gradient, light = np.zeros(likelihood.shape, np.complex64), np.zeros(likelihood.shape)
    found = list(likelihood.batches(8, rng))
    assert len(found) == 2 * 3 + 2  # blocks of 20, 20 and 9
    for region, slope, spots in found:
        gradient[region] += slope(np.ascontiguousarray(obj[region]))
        light[region] += spots
    whole = likelihood(obj)[1]
    np.testing.assert_allclose(gradient, whole, atol=1e-5 * np.abs(whole).max())
    np.testing.assert_allclose(light, likelihood.illumination(), rtol=1e-5, atol=1e-6 * light.max())


def test_counts_that_are_no_numbers_are_named(scan):
    frames = np.array(scan.diffraction[:8])
    frames[5, 3, 3] = np.nan
    broken = SimpleNamespace(diffraction=frames, xcoords=scan.xcoords[:8], ycoords=scan.ycoords[:8])
    with pytest.raises(ValueError, match=r"exposures \[5\]: counts that are not finite numbers"):
        reconstruct(Counts.of(broken, np.array([1, 2, 5])), scan.probe, OPTIONS, seed=0)


def test_a_prior_at_the_end_of_the_grid_is_said_and_none_beyond_is_chosen(scan, capsys):
    options = replace(OPTIONS, lambda_max=0.5, lambda_min=0.25, iterations=3)
    light = Likelihood(counts_of(scan), scan.probe).illumination()
    grid = tv_weights(options, light)
    chosen, _ = choose_tv_weight(
        counts_of(scan), scan.probe, 0.8, replace(options, lambda_min=float(grid[0])), seed=0, rows=[]
    )
    assert chosen in grid
    assert "prior that may be chosen" in capsys.readouterr().err
