"""The photon limit: information and drawn errors against the matrix and its inverse, and where the limit is known."""

import numpy as np
import pytest

from ptycho.data.views import FIT, HOLDOUT, VALIDATION, View
from ptycho.physics.forward import illumination, predict_intensity
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.likelihood import Likelihood
from ptycho.reconstruction.optimize import minimize
from ptycho.scoring import photon_bound
from ptycho.scoring.fisher_information import FisherInformation
from ptycho.scoring.photon_bound import bound_table, draw_errors, solve
from ptycho.scoring.placement import illumination_on
from ptycho.scoring.region import Region, shared_region
from tests.conftest import DOSE, view_of, write_scan

SIDE, N = 11, 8
POSITIONS = np.meshgrid([4.0, 5.3, 6.8], [4.2, 5.6, 7.0])
XCOORDS, YCOORDS = (axis.ravel() for axis in POSITIONS)


def waves(rng, *shape):
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


@pytest.fixture(params=[1, 2], ids=["coherent", "two modes"])
def problem(request):
    """A small object and a rough probe, all of whose pixels are lit."""
    rng = np.random.default_rng(0)
    return 1 + 0.3 * waves(rng, SIDE, SIDE), 3 * waves(rng, request.param, N, N)


def information_of(obj, probe):
    return FisherInformation(obj, probe, (XCOORDS, YCOORDS))


def as_vector(change):
    return np.concatenate([change.real.ravel(), change.imag.ravel()])


def unit(index):
    vector = np.zeros(2 * SIDE**2)
    vector[index] = 1
    return (vector[: SIDE**2] + 1j * vector[SIDE**2 :]).reshape(SIDE, SIDE)


def matrix_of(obj, probe):
    """The information from differences of the forward model, which are exact: intensities are quadratic."""

    def intensity(change):
        return predict_intensity(obj + change, probe, XCOORDS, YCOORDS).ravel()

    columns = [(intensity(unit(i)) - intensity(-unit(i))) / 2 for i in range(2 * SIDE**2)]
    jacobian = np.stack(columns, axis=1)
    return jacobian.T @ (jacobian / intensity(0)[:, None])


def test_the_information_is_that_of_the_forward_model(problem):
    matrix, information = matrix_of(*problem), information_of(*problem)
    products = np.stack([as_vector(information(unit(i))) for i in range(len(matrix))])
    np.testing.assert_allclose(products, matrix, atol=1e-5 * matrix.max())


def test_the_trace_of_the_information_is_four_times_the_illumination_where_modes_do_not_mix(problem):
    flux = illumination(problem[1], XCOORDS, YCOORDS, (SIDE, SIDE))
    np.testing.assert_allclose(information_of(*problem).illumination, flux)
    share = np.trace(matrix_of(*problem)) / (4 * flux.sum())
    assert share == pytest.approx(1) if len(problem[1]) == 1 else 0.3 < share < 0.8


def test_what_is_drawn_has_the_information_as_covariance(problem):
    matrix, information, rng = matrix_of(*problem), information_of(*problem), np.random.default_rng(1)
    draws = np.stack([as_vector(information.draw(rng)) for _ in range(3000)])
    values, vectors = np.linalg.eigh(matrix)
    # sd of a variance: √(2 / 3000) = 2.6 %; five of them for the largest of 242
    np.testing.assert_allclose((draws @ vectors[:, 20:]).var(0), values[20:], rtol=0.13)
    assert np.abs(draws.mean(0)).max() < 5 * np.sqrt(matrix.diagonal().max() / 3000)


def test_conjugate_gradients_invert_the_information(problem):
    matrix, information = matrix_of(*problem), information_of(*problem)
    target = matrix @ as_vector(waves(np.random.default_rng(2), SIDE, SIDE))
    halves = target.reshape(2, SIDE, SIDE)
    solution = as_vector(solve(information, halves[0] + 1j * halves[1], 1e-6, 3000))
    nothing_known = as_vector(1j * problem[0]) / np.linalg.norm(problem[0])
    difference = solution - np.linalg.pinv(matrix, rcond=1e-10, hermitian=True) @ target
    difference -= nothing_known * (nothing_known @ difference)
    assert np.linalg.norm(difference) < 1e-2 * np.linalg.norm(solution)


def test_the_limit_is_the_trace_of_the_inverse(problem):
    inverse = np.linalg.pinv(matrix_of(*problem), rcond=1e-10, hermitian=True)
    information, rng = information_of(*problem), np.random.default_rng(3)
    nothing_known = as_vector(1j * problem[0]) / np.linalg.norm(problem[0])
    errors = np.stack([as_vector(solve(information, information.draw(rng), 1e-5)) for _ in range(100)])
    errors -= np.outer(errors @ nothing_known, nothing_known)
    spread = np.sqrt(2 * np.sum(inverse**2) / 100)
    assert abs(np.mean(np.sum(errors**2, 1)) - np.trace(inverse)) < 3 * spread
    assert spread < 0.2 * np.trace(inverse)


def test_a_probe_of_one_pixel_knows_the_amplitude_to_a_quarter_of_a_photon():
    """n = |pO|² counts have the variance n: that of |O| is n / (dn/d|O|)² = 1 / 4|p|². The phase leaves no trace."""
    obj, probe = 0.7 * np.exp(0.4j) * np.ones((9, 9)), np.zeros((N, N))
    probe[N // 2, N // 2] = 20.0
    x, y = (axis.ravel() for axis in np.meshgrid([4.0, 5.0], [4.0, 5.0]))
    information, lit = FisherInformation(obj, probe, (x, y)), np.s_[4:6, 4:6]
    along, across = np.zeros((2, 9, 9), complex)
    along[lit], across[lit] = np.exp(0.4j), 1j * np.exp(0.4j)
    np.testing.assert_allclose(information(along), 4 * 400 * along, atol=1e-3)
    np.testing.assert_allclose(information(across), 0, atol=1e-3)
    rng = np.random.default_rng(4)
    errors = np.stack([solve(information, information.draw(rng))[lit] for _ in range(500)])
    assert np.mean(np.abs(errors) ** 2) == pytest.approx(1 / 1600, rel=3 * np.sqrt(2 / 2000))
    np.testing.assert_allclose((errors * np.exp(-0.4j)).imag, 0, atol=1e-6)


def test_fewer_steps_give_a_smaller_error_and_a_warning(problem, log):
    information = information_of(*problem)
    target = information.draw(np.random.default_rng(5))
    norms = [np.sum(information.illumination * abs(solve(information, target, 1e-6, n)) ** 2) for n in (3, 10, 30)]
    assert norms[0] < 0.95 * norms[1] < norms[2]
    assert "after 3 iterations, wanted 1e-06: the bound is too low" in log.text


@pytest.fixture(scope="module")
def drawn(scan):
    view = view_of(scan)
    region = shared_region(scan, [view])
    return view, region, *draw_errors(scan, view, region, [np.random.default_rng(0)])


def test_errors_cover_the_region_and_exceed_one_over_the_illumination(scan, drawn):
    """(F⁻¹)ₖₖ ≥ 1 / Fₖₖ, and those of a pixel's two parts add up to 4 Σ|P|²: its error² is at least 1 / Σ|P|²."""
    view, region, (error,), tile = drawn
    assert tile == region
    floor = np.mean(1 / illumination_on(region, scan, view))
    assert 1 < np.mean(np.abs(error) ** 2) / floor < 3
    truth = scan.object[region.box]
    assert abs(np.sum((1j * truth).conj() * error).real) < 1e-6 * np.linalg.norm(truth) * np.linalg.norm(error)


def test_maximum_likelihood_attains_the_limit_where_photons_are_many(tmp_path):
    """Without a prior, started at the truth, of counts that another program than the bound's has drawn."""
    scan = write_scan(tmp_path / "bright.npz", dose=10_000_000)
    view = view_of(scan)
    region = shared_region(scan, [view])
    errors, _ = draw_errors(scan, view, region, map(np.random.default_rng, range(2)))
    likelihood = Likelihood(Counts.of(scan, view.of_role(FIT, VALIDATION)), scan.probe)
    likelihood.background = 1e-6
    (top, left), (height, width) = likelihood.origin_px, likelihood.shape
    canvas = Region(top, top + height, left, left + width)
    estimate, *_ = minimize(likelihood, scan.object[canvas.box].astype(np.complex64), 0.0, 300)
    truth = scan.object[region.box].astype(complex)
    error = estimate[region.inside(canvas)] - truth
    error -= 1j * truth * np.sum((1j * truth).conj() * error).real / np.sum(np.abs(truth) ** 2)
    assert np.linalg.norm(error) == pytest.approx(np.mean([np.linalg.norm(drawn) for drawn in errors]), rel=0.05)


def test_holdout_exposures_bring_no_information(scan, drawn):
    view, region, (error,), _ = drawn
    role = np.where(np.arange(len(view.role)) % 2, FIT, HOLDOUT).astype(np.int8)
    half = View(exposures=view.exposures, role=role, nn_indices=view.nn_indices, metadata={})
    ((worse,), _) = draw_errors(scan, half, region, [np.random.default_rng(0)])
    assert np.linalg.norm(worse) > 1.3 * np.linalg.norm(error)


def test_of_a_large_region_the_middle_is_drawn(scan, drawn, monkeypatch):
    view, region, (whole,), _ = drawn
    monkeypatch.setattr(photon_bound, "MAX_SIDE_PX", 20)
    ((error,), tile) = draw_errors(scan, view, region, [np.random.default_rng(1)])
    assert error.shape == tile.shape == (20, 20)
    assert np.abs(np.subtract(tile.origin_px, region.origin_px) * 2 + 20 - region.shape).max() <= 1
    middle = np.sqrt(np.mean(np.abs(whole[tile.inside(region)]) ** 2))
    assert np.sqrt(np.mean(np.abs(error) ** 2)) == pytest.approx(middle, rel=0.15)


def test_the_error_falls_with_the_square_root_of_the_dose(scan, drawn):
    _, region, errors, _ = drawn
    truth = scan.object[region.box].astype(complex)
    table = bound_table(errors, truth, DOSE, [DOSE // 4, DOSE, 100 * DOSE])
    assert set(table["method"]) == {"photon limit"}
    low, own, high = (table.query("dose == @dose").set_index("metric")["value"] for dose in table["dose"].unique())
    assert own["error"] == pytest.approx(np.linalg.norm(errors[0]) / np.linalg.norm(truth))
    assert low["error"] == pytest.approx(2 * own["error"])
    assert high["error"] == pytest.approx(own["error"] / 10)
    assert low["frc50_phase"] < own["frc50_phase"] <= high["frc50_phase"]


def test_a_region_larger_than_the_limit_is_cut_around_its_middle():
    assert photon_bound._middle(Region(10, 410, 5, 105)) == Region(82, 338, 5, 105)
