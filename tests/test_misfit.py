"""The yardstick of reconstructions without a truth: closed forms, laws and Monte Carlo."""

import numpy as np
import pytest
from scipy import stats

from ptycho.physics.noise import poisson_deviance
from ptycho.scoring.misfit import deviance_moments, measure_misfit, misfit_of_shot_noise


@pytest.mark.parametrize("mean", [1e-9, 1e-4, 0.03, 0.5, 1.2, 7.0, 900.0, 1100.0])
def test_moments_of_the_deviance_are_sums_over_all_counts(mean):
    counts = np.arange(3000)
    weight = stats.poisson.pmf(counts, mean)
    deviance = np.array([poisson_deviance([y], [mean]) for y in counts[weight > 0]])
    weight = weight[weight > 0]
    expected = np.sum(weight * deviance)
    variance = np.sum(weight * (deviance - expected) ** 2)
    np.testing.assert_allclose(deviance_moments(mean), [expected, variance], rtol=2e-3)


def test_nothing_is_expected_where_nothing_is_predicted_and_one_per_pixel_where_photons_are_many():
    expected, variance = deviance_moments([0.0, 1e8])
    np.testing.assert_allclose(expected, [0, 1], atol=1e-6)
    np.testing.assert_allclose(variance, [0, 2], atol=1e-6)


@pytest.mark.parametrize("mean", [0.02, 0.6, 30.0])
def test_an_exact_prediction_has_a_misfit_of_one_at_any_dose(mean):
    rng = np.random.default_rng(1)
    means = mean * rng.uniform(0.5, 1.5, (60, 48, 48))
    misfit = measure_misfit([(rng.poisson(means), means)])
    assert abs(misfit.ratio - 1) < 4 * misfit.standard_error < 0.1
    assert measure_misfit([(rng.poisson(2 * means), means)]).ratio > 1 + 10 * misfit.standard_error


def test_the_standard_error_is_the_scatter_of_repeated_measurements():
    rng = np.random.default_rng(2)
    means = rng.uniform(0.1, 3, (4, 16, 16))
    misfits = [measure_misfit([(rng.poisson(means), means)]) for _ in range(300)]
    assert np.std([misfit.ratio for misfit in misfits]) == pytest.approx(misfits[0].standard_error, rel=0.15)


def test_blocks_are_not_seen_in_the_result():
    rng = np.random.default_rng(3)
    means = rng.uniform(0, 3, (7, 8, 8))
    counts = rng.poisson(means)
    whole = measure_misfit([(counts, means)])
    parts = measure_misfit((counts[part], means[part]) for part in (slice(0, 3), slice(3, 7)))
    assert parts.ratio == pytest.approx(whole.ratio, rel=1e-12)
    np.testing.assert_allclose(parts.by_exposure, whole.by_exposure)
    np.testing.assert_allclose(parts.by_pixel, whole.by_pixel)
    np.testing.assert_allclose(whole.deviance.sum(), whole.pixel_deviance.sum())
    assert whole.as_dict()["deviance_per_pixel"] == pytest.approx(poisson_deviance(counts, means))


def test_what_stands_in_masked_pixels_changes_nothing():
    rng = np.random.default_rng(4)
    means, valid = rng.uniform(0.1, 3, (5, 8, 8)), np.ones((8, 8), bool)
    counts, valid[2], valid[:, 5] = rng.poisson(means), False, False
    misfit = measure_misfit([(counts, means)], valid)
    spoiled = np.where(valid, counts, 2**32 - 1)
    assert measure_misfit([(spoiled, means)], valid).as_dict() == misfit.as_dict()
    assert misfit.n_valid == 49
    assert np.isnan(misfit.by_pixel[2]).all()
    assert measure_misfit([(spoiled, means)]).ratio > 1e6


def test_a_wrong_exposure_and_a_wrong_pixel_stand_out():
    rng = np.random.default_rng(5)
    means = np.full((9, 16, 16), 20.0)
    counts = rng.poisson(means)
    counts[4] = rng.poisson(means[4] / 2)
    counts[:, 3, 7] = 90
    misfit = measure_misfit([(counts, means)])
    assert np.argmax(misfit.by_exposure) == 4
    assert np.unravel_index(np.argmax(misfit.by_pixel), (16, 16)) == (3, 7)


def test_no_exposure_or_pixel_is_refused():
    with pytest.raises(ValueError, match="no exposures"):
        measure_misfit([])
    with pytest.raises(ValueError, match="no valid pixels"):
        measure_misfit([(np.ones((1, 2, 2)), np.ones((1, 2, 2)))], np.zeros((2, 2), bool))
    with pytest.raises(ValueError, match=r"\(1, 2, 2\) counts but \(1, 3, 3\)"):
        measure_misfit([(np.ones((1, 2, 2)), np.ones((1, 3, 3)))])


def test_shot_noise_of_the_fitted_photons_raises_the_misfit_by_the_number_of_fitted_values():
    """Linear case: m counts of one mean, estimated from n others, exceed their deviance by 1 / n each."""
    rng, n, mean = np.random.default_rng(6), 4, 400.0
    fitted, held = rng.poisson(mean, (2, n, 200, 200))
    misfit = measure_misfit([(held, np.broadcast_to(fitted.mean(axis=0), held.shape))])
    predicted = misfit_of_shot_noise(0.5 * 200 * 200 / n, 200 * 200)  # half a complex pixel: one number per mean
    assert misfit.ratio == pytest.approx(predicted, rel=0.02)
