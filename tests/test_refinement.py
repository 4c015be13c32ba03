"""Joint refinement: gradients in its variables, what stays constant, and what becomes right."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from ptycho.physics.displacement import affine_residual, displaced, rms_px, slopes, spread_px
from ptycho.physics.forward import predict_intensity
from ptycho.physics.probes import scale_to, zone_plate_probe
from ptycho.physics.samples import simulate_object
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.deformation import Deformation
from ptycho.reconstruction.joint_preconditioner import UNKNOWNS, JointPreconditioner
from ptycho.reconstruction.location import locate
from ptycho.reconstruction.prior import ShiftPrior
from ptycho.reconstruction.probe_variables import Aberrations, aberrations
from ptycho.reconstruction.refinement import RefinementOptions, refine
from ptycho.reconstruction.refiner import mismatch
from tests.test_joint_likelihood import likelihood_of, parameters_of

N, DOSE = 32, 200_000


def probe_with(defocus_px):
    optics = {"pupil_px": 8.0, "stop": 0.3, "astigmatism_rad": 0.6, "coma_rad": 0.4}
    return scale_to(zone_plate_probe(N, defocus_px=defocus_px, **optics), DOSE)


@cache
def scanned():
    """Counts of 49 exposures, 4 px apart, with their true positions."""
    rng = np.random.default_rng(5)
    rows, columns = (4.0 * axis.ravel() + 24 + rng.uniform(-1, 1, 49) for axis in np.indices((7, 7)))
    obj = simulate_object("dead_leaves", (96, 96), rng)
    frames = rng.poisson(predict_intensity(obj, probe_with(12.0), columns, rows)).astype(float)
    return frames, np.stack([rows, columns])


MIDDLE = np.arange(49).reshape(7, 7)[1:6, 1:6].ravel()

APART = np.arange(49).reshape(7, 7)[::2, ::2].ravel()


def counts_of_middle(frames):
    """Counts of 25 exposures at their true positions."""
    _, truth = scanned()
    return Counts(lambda which: frames[MIDDLE[which]], truth[1, MIDDLE], truth[0, MIDDLE])


def test_gradients_of_all_variables_are_those_of_finite_differences():
    likelihood = likelihood_of(modes=2)
    start = replace(parameters_of(likelihood, double=True), background=0.2)
    preconditioner = JointPreconditioner(likelihood, start, UNKNOWNS)
    rng = np.random.default_rng(0)

    def value(z):
        found, _ = preconditioner.parameters(z, likelihood.device)
        found = replace(found, object=found.object.astype(complex), probe=found.probe.astype(complex))
        return likelihood.evaluate(found, ())[0]

    z = 1e-3 * rng.normal(size=preconditioner.size)
    found, adjoint = preconditioner.parameters(z, likelihood.device)
    gradient = adjoint(likelihood.evaluate(found)[1])
    assert len(gradient) == preconditioner.size
    for first, last in zip(preconditioner.bounds[:-1], preconditioner.bounds[1:], strict=True):
        direction = np.zeros(preconditioner.size)
        direction[first:last] = rng.normal(size=last - first)
        step = 0.03 / np.linalg.norm(direction)
        slope = (value(z + step * direction) - value(z - step * direction)) / (2 * step)
        assert slope == pytest.approx(gradient @ direction, rel=0.02)


def test_probes_that_are_kept_are_those_of_the_parameters():
    likelihood = likelihood_of()
    start = parameters_of(likelihood)
    changes = [{"shifts": start.shifts + 0.3}, {"flux": 1.1 * start.flux}, {"probe": np.float32(0.9) * start.probe}, {}]
    for parameters in (replace(start, **change) for change in changes):
        (value, found), (expected, other) = (
            each.evaluate(parameters, ["object"]) for each in (likelihood, likelihood_of())
        )
        assert value == expected == pytest.approx(likelihood.evaluate(parameters, ())[0], rel=1e-6)
        np.testing.assert_array_equal(found.object, other.object)


def test_photons_of_the_probe_and_the_mean_flux_stay():
    likelihood = likelihood_of(modes=2)
    start = parameters_of(likelihood, background=0.2)
    preconditioner = JointPreconditioner(likelihood, start, ("probe", "flux"))
    found, _ = preconditioner.parameters(np.random.default_rng(0).normal(size=preconditioner.size), likelihood.device)
    assert not np.allclose(found.probe, start.probe, rtol=1e-3)
    assert np.sum(np.abs(found.probe) ** 2) == pytest.approx(np.sum(np.abs(start.probe) ** 2), rel=1e-5)
    assert np.log(found.flux).mean() == pytest.approx(np.log(start.flux).mean())


def test_aberrations_are_orthonormal_and_neither_move_nor_turn_the_probe():
    spectrum = np.fft.fft2(probe_with(12.0))[None]
    phases = aberrations(spectrum, 4)
    weight = np.abs(spectrum[0]) ** 2 / np.sum(np.abs(spectrum) ** 2)
    assert len(phases) == 12
    assert np.einsum("khw,lhw,hw->kl", phases, phases, weight) == pytest.approx(np.eye(12), abs=1e-6)
    frequency = np.fft.fftfreq(N)
    for fixed in (np.ones(N)[:, None], frequency[:, None], frequency[None, :]):
        assert np.sum(phases * fixed * weight, axis=(1, 2)) == pytest.approx(np.zeros(12), abs=1e-6)


def test_gradients_of_aberrations_are_those_of_finite_differences():
    rng = np.random.default_rng(0)
    optics = Aberrations(probe_with(12.0)[None].astype(np.complex64), 0.5)
    z, weight = rng.normal(size=optics.size), rng.normal(size=(2, 1, N, N))
    weight = weight[0] + 1j * weight[1]

    def value(z):
        return np.sum((weight.conj() * np.fft.ifft2(optics(z)[0])).real)

    gradient, step = optics(z)[1](weight), 1e-2 * np.eye(optics.size)
    slope = [(value(z + each) - value(z - each)) / 2e-2 for each in step]
    assert gradient == pytest.approx(slope, rel=0.02, abs=1e-3 * np.abs(gradient).max())


def test_prior_is_the_logarithm_of_a_normal_distribution_without_the_common_shift():
    rng = np.random.default_rng(0)
    shifts, positions = rng.normal(size=(2, 5)), rng.uniform(0, 9, (2, 5))
    value, gradient = ShiftPrior(positions, 2.0)(shifts)
    own = shifts - shifts.mean(1, keepdims=True)
    assert value == pytest.approx(np.sum(own**2) / 8)
    prior = ShiftPrior(positions, 2.0, 3.0)
    residual, _ = affine_residual(shifts, positions)
    value, gradient = prior(shifts)
    assert value == pytest.approx(np.sum(residual**2) / 8 + np.sum((own - residual) ** 2) / 2 / (4 + 5 / 2 * 9))
    assert prior(shifts + 3.0)[0] == pytest.approx(value)
    step = 1e-6 * np.eye(10)[3].reshape(2, 5)
    assert (prior(shifts + step)[0] - prior(shifts - step)[0]) / 2e-6 == pytest.approx(gradient[0, 3])


def test_on_a_line_a_map_has_one_slope():
    positions = np.array([np.arange(5.0), np.zeros(5)])
    shifts = np.random.default_rng(0).normal(size=(2, 5))
    own = shifts - shifts.mean(1, keepdims=True)
    slope = (positions[0] - 2) / np.sqrt(10)
    common = (own @ slope)[:, None] * slope
    prior = ShiftPrior(positions, 2.0, 3.0)
    value = np.sum((own - common) ** 2) / 8 + np.sum(common**2) / 2 / (4 + 5 * 9)
    assert prior(shifts)[0] == pytest.approx(value)
    assert prior.log_width == pytest.approx(10 * np.log(2) + np.log((4 + 5 * 9) / 4))


def test_prior_holds_a_magnification_less_than_as_many_errors_of_their_own():
    """The same displacements, in another order, are no map of the scan."""
    positions = np.random.default_rng(0).uniform(0, 90, (2, 60))
    magnified = 0.02 * positions
    shuffled = np.random.default_rng(1).permuted(magnified, axis=1)
    costs = [ShiftPrior.of(shifts, positions)(shifts)[0] for shifts in (magnified, shuffled)]
    assert costs[0] < 5
    assert costs[1] > 10 * costs[0]


def test_an_affine_map_is_removed_and_nothing_else():
    rng = np.random.default_rng(0)
    positions = rng.uniform(0, 100, (2, 400))
    errors = rng.normal(size=(2, 400))
    errors, _ = affine_residual(errors, positions)
    bent = errors + np.array([[0.01, 0.02], [-0.03, 0.04]]) @ (positions - positions.mean(1, keepdims=True)) + 2.0
    residual, affine = affine_residual(bent, positions)
    assert residual == pytest.approx(errors)
    assert affine == pytest.approx(np.array([[2.0, 0.01, 0.02], [2.0, -0.03, 0.04]]))
    assert spread_px(bent, positions) == pytest.approx(1.0, rel=0.1)


def test_deformation_and_adjoint():
    rng = np.random.default_rng(0)
    deformation = Deformation(rng.uniform([[20], [30]], [[60], [110]], (2, 30)), (60, 100), (10, 20))
    coefficients, field = rng.normal(size=(2, deformation.size)), rng.normal(size=(2, 60, 100))
    forward = np.sum(deformation.on_grid(coefficients) * field)
    assert forward == pytest.approx(np.sum(coefficients * deformation.adjoint(field)))


def test_an_object_is_displaced_towards_larger_rows_and_columns():
    obj = simulate_object("dead_leaves", (40, 50), np.random.default_rng(0))
    field = np.zeros((2, 40, 50))
    field[0], field[1] = 3, -2
    assert displaced(obj, field)[10:20, 10:20] == pytest.approx(obj[7:17, 12:22], abs=1e-5)


def test_slopes_are_what_an_object_changes_by_when_it_is_displaced():
    rng = np.random.default_rng(0)
    obj = rng.normal(size=(30, 40)) + 1j * rng.normal(size=(30, 40))
    for axis, slope in enumerate(slopes(obj)):
        field = np.zeros((2, 30, 40))
        field[axis] = 1e-2
        change = (displaced(obj, -field) - displaced(obj, field)) / 2e-2
        assert slope[5:-5, 5:-5] == pytest.approx(change[5:-5, 5:-5], abs=2e-3)


@cache
def refined_positions():
    """All exposures but one, whose positions are wrong by 1 px along either axis, and what was found."""
    frames, truth = scanned()
    wrong, seen = truth + np.random.default_rng(1).normal(0, 1.0, truth.shape), np.delete(np.arange(49), 24)
    counts = Counts(lambda which: frames[seen[which]], wrong[1, seen], wrong[0, seen])
    options = RefinementOptions(unknown=("positions",), search_px=6.0, rounds=3)
    return wrong, seen, refine(counts, probe_with(12.0), options, seed=0)


def test_wrong_positions_become_right():
    _, truth = scanned()
    wrong, seen, found = refined_positions()
    before, _ = affine_residual((wrong - truth)[:, seen], truth[:, seen])
    after, _ = affine_residual((wrong - truth)[:, seen] + found.parameters.shifts, truth[:, seen])
    assert rms_px(before) > 1
    assert rms_px(after) < 0.15
    assert found.history["deviance"].iloc[-1] < found.history["deviance"].iloc[0]


def test_an_exposure_that_was_not_refined_is_located_under_the_object():
    frames, truth = scanned()
    wrong, seen, found = refined_positions()
    one = Counts(lambda which: frames[24 + which], wrong[1, [24]], wrong[0, [24]])
    shift, flux = locate(one, found, ("positions", "flux"), seed=0)
    assert flux == pytest.approx([1.0], rel=0.02)
    common = ((wrong - truth)[:, seen] + found.parameters.shifts).mean(1)
    assert np.hypot(*(wrong - truth)[:, 24]) > 0.5
    assert np.hypot(*((wrong - truth)[:, 24] + shift[:, 0] - common)) < 0.2


def test_a_wrong_defocus_becomes_right():
    frames, _ = scanned()
    options = RefinementOptions(unknown=("probe",), rounds=5)
    found = refine(counts_of_middle(frames), probe_with(16.0), options, seed=0).parameters
    assert mismatch(probe_with(16.0), probe_with(12.0)) > 0.06
    assert mismatch(found.probe[0], probe_with(12.0)) < 0.02
    assert not found.shifts.any()


def test_a_wrong_defocus_is_not_made_up_for_by_a_magnification_of_wrong_positions():
    frames, truth = scanned()
    wrong = truth + np.random.default_rng(1).normal(0, 1.0, truth.shape)
    options = RefinementOptions(unknown=("positions", "probe"), search_px=6.0, rounds=4)
    counts = Counts(lambda which: frames[which], wrong[1], wrong[0])
    found = refine(counts, probe_with(16.0), options, seed=0).parameters
    errors = wrong - truth + found.shifts
    assert rms_px(errors - errors.mean(1, keepdims=True)) < 0.15
    assert mismatch(found.probe[0], probe_with(12.0)) < 0.002


def test_an_exposure_at_the_border_that_is_far_off_is_found():
    frames, truth = scanned()
    wrong = truth + np.random.default_rng(1).normal(0, 0.3, truth.shape)
    wrong[:, 3] += -7, 3
    options = RefinementOptions(unknown=("positions",), search_px=6.0, rounds=3)
    found = refine(Counts(lambda which: frames[which], wrong[1], wrong[0]), probe_with(12.0), options, seed=0)
    errors = wrong - truth + found.parameters.shifts
    assert np.hypot(*(errors[:, 3] - np.median(errors, axis=1))) < 0.3


@pytest.mark.parametrize("fraction", [0.01, 0.001])
def test_positions_do_not_get_worse_where_few_photons_are_shared(fraction):
    frames, truth = scanned()
    few = np.random.default_rng(2).binomial(frames.astype(int), fraction).astype(float)
    wrong, apart = truth + np.random.default_rng(1).normal(0, 1.0, truth.shape), APART
    options = RefinementOptions(unknown=("positions",), search_px=6.0, rounds=3)
    counts = Counts(lambda which: few[apart[which]], wrong[1, apart], wrong[0, apart])
    found = refine(counts, probe_with(12.0) * np.sqrt(fraction), options, seed=0).parameters
    before = (wrong - truth)[:, apart]
    after = before + found.shifts
    before, after = (rms_px(errors - errors.mean(1, keepdims=True)) for errors in (before, after))
    assert before > 1
    assert after < 1.02 * before


def test_flux_and_background_are_found():
    frames, _ = scanned()
    rng = np.random.default_rng(3)
    flux = np.exp(0.1 * rng.normal(size=49))
    flux /= np.exp(np.log(flux[MIDDLE]).mean())
    detected = rng.binomial(frames.astype(int), (0.5 * flux)[:, None, None]) + rng.poisson(0.3, frames.shape)
    options = RefinementOptions(unknown=("flux", "background"), rounds=8)
    found = refine(counts_of_middle(detected.astype(float)), probe_with(12.0) * np.sqrt(0.5), options, seed=0)
    assert found.parameters.flux == pytest.approx(flux[MIDDLE], rel=0.025)  # the minimum is there: 1 % rms
    assert found.parameters.background == pytest.approx(0.3, rel=0.05)


def test_what_is_no_unknown_is_named():
    with pytest.raises(ValueError, match=r"unknown: \['position'\]; wanted some of \['probe', 'positions'"):
        RefinementOptions(unknown=("position",))


def test_positions_that_no_object_fits_stay_on_the_canvas():
    """Frames of another orientation drive them away, as far as they may go."""
    frames, _ = scanned()
    options = RefinementOptions(unknown=("positions",), search_px=0.0, rounds=1)
    found = refine(counts_of_middle(frames[:, :, ::-1]), probe_with(12.0), options, seed=0).parameters
    assert np.abs(found.shifts).max() <= 4
    assert np.isfinite(found.object).all()
