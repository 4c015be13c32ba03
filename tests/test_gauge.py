"""Any gauge is found: in noise, and in a reconstruction from few photons; what is unrelated is refused."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptycho.data.object_files import paste
from ptycho.physics.probes import scale_to, zone_plate_probe
from ptycho.physics.simulate import simulate_scan
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.likelihood import Likelihood
from ptycho.reconstruction.optimize import minimize
from ptycho.scoring.metrics import score
from ptycho.scoring.registration import AlignmentError, align
from tests.test_registration import CONTRASTS, ILLUMINATION, NOISE, REGION, SIDE, distorted, relative_error, scene

INNER = (slice(44, 156), slice(44, 156))  # where the exposures of `reconstruction` overlap


@cache
def reconstruction(contrast):
    """Maximum likelihood without a prior from 1e4 photons per exposure, on the truth's grid, 0.75 where it is dark."""
    probe = zone_plate_probe(64, pupil_px=13.0, stop=0.3, defocus_px=26.0, astigmatism_rad=0.6, coma_rad=0.4)
    probe = scale_to(probe, 10_000)
    rows = np.arange(34, 167, 8.8)
    rng = np.random.default_rng(0)
    y, x = (axis.ravel() + rng.uniform(-1, 1, axis.size) for axis in np.meshgrid(rows, rows, indexing="ij"))
    frames = np.concatenate(
        list(simulate_scan(scene("dead_leaves", contrast), probe, (x, y), np.random.default_rng(1)))
    )
    likelihood = Likelihood(Counts(lambda chosen: np.square(frames[chosen]), x, y), probe)
    start = np.full(likelihood.shape, 0.75, np.complex64)
    obj, *_ = minimize(likelihood, start, 0.0, 25)
    return paste(obj.astype(np.complex128), likelihood.origin_px, (SIDE, SIDE), fill=0.75)


shifts = st.floats(-8, 8)
ramps = st.floats(-np.pi / 32, np.pi / 32)
any_gauge = given(
    shift=st.tuples(shifts, shifts),
    ramp=st.tuples(ramps, ramps),
    scale=st.floats(0.1, 10),
    phase=st.floats(-3.1, 3.1),
)


def test_metrics_are_independent_of_the_gauge():
    """Rotate the phase of one reconstruction, scale, tilt and shift it: no metric changes beyond rounding."""
    truth, estimate = scene(), reconstruction("both")
    expected = score(align(estimate, truth, ILLUMINATION, INNER)[0], truth[INNER])
    whole = np.roll(estimate, (5, -7), (0, 1))
    changes = {
        "phase": estimate * np.exp(2.5j),
        "scale": estimate * 51.6,
        "ramp": distorted(estimate, ramp=(0.09, -0.05), region=INNER),
        "shift": whole,
        "all": distorted(whole, ramp=(-0.03, 0.08), factor=0.3j, region=INNER),
    }
    for name, changed in changes.items():
        values = score(align(changed, truth, ILLUMINATION, INNER)[0], truth[INNER])
        for metric, value in values.items():
            assert value == pytest.approx(expected[metric], rel=2e-4, abs=2e-5), (name, metric)


@pytest.mark.parametrize("contrast", CONTRASTS)
@pytest.mark.parametrize("kind", ["dead_leaves", "lines", "siemens"])
@settings(max_examples=3, deadline=None, derandomize=True)
@any_gauge
def test_any_gauge_is_found_and_removed_in_noise(kind, contrast, shift, ramp, scale, phase):
    truth = scene(kind, contrast)
    estimate = distorted(truth, shift, ramp, scale * np.exp(1j * phase), NOISE)
    aligned, gauge = align(estimate, truth, ILLUMINATION, REGION)
    assert gauge.shift_y_px == pytest.approx(shift[0], abs=0.05)
    assert gauge.shift_x_px == pytest.approx(shift[1], abs=0.05)
    assert gauge.ramp_y_rad_per_px == pytest.approx(ramp[0], rel=0.01, abs=2e-4)
    assert gauge.ramp_x_rad_per_px == pytest.approx(ramp[1], rel=0.01, abs=2e-4)
    assert gauge.scale == pytest.approx(scale, rel=0.01)
    assert abs(np.angle(np.exp(1j * (gauge.phase_rad - phase)))) < 0.01
    floor = NOISE / np.sqrt(np.mean(np.abs(truth[REGION]) ** 2))  # interpolation neither blurs nor adds
    assert relative_error(aligned, truth) == pytest.approx(floor, rel=0.05)


@pytest.mark.parametrize("contrast", CONTRASTS)
@settings(max_examples=3, deadline=None, derandomize=True)
@any_gauge
def test_a_gauge_applied_to_a_reconstruction_from_1e4_photons_is_found(contrast, shift, ramp, scale, phase):
    """In addition to its own: colored noise shifts the reconstruction itself by some hundredths of a pixel."""
    truth, estimate = scene("dead_leaves", contrast), reconstruction(contrast)
    aligned, own = align(estimate, truth, ILLUMINATION, INNER)
    noise = np.sqrt(np.mean(np.abs(aligned - truth[INNER]) ** 2))
    assert 0.4 * NOISE < noise < 1.3 * NOISE
    assert own.shift_px < 0.1
    moved = distorted(estimate, shift, ramp, scale * np.exp(1j * phase), region=INNER)
    back, gauge = align(moved, truth, ILLUMINATION, INNER)
    assert gauge.shift_y_px - own.shift_y_px == pytest.approx(shift[0], abs=0.05)
    assert gauge.shift_x_px - own.shift_x_px == pytest.approx(shift[1], abs=0.05)
    assert gauge.ramp_y_rad_per_px - own.ramp_y_rad_per_px == pytest.approx(ramp[0], rel=0.01, abs=2e-4)
    assert gauge.ramp_x_rad_per_px - own.ramp_x_rad_per_px == pytest.approx(ramp[1], rel=0.01, abs=2e-4)
    assert gauge.scale / own.scale == pytest.approx(scale, rel=0.01)
    np.testing.assert_allclose(np.linalg.norm(back - aligned), 0, atol=0.02 * np.linalg.norm(aligned))


@settings(max_examples=5, deadline=None, derandomize=True)
@given(
    contrast=st.sampled_from(sorted(CONTRASTS)),
    seed=st.integers(100, 10_000),
    level=st.complex_numbers(min_magnitude=0.01, max_magnitude=100),
)
def test_unrelated_and_flat_samples_are_refused(contrast, seed, level):
    truth = scene("dead_leaves", contrast)
    with pytest.raises(AlignmentError, match="in common"):
        align(scene("dead_leaves", contrast, seed), truth, ILLUMINATION, REGION)
    with pytest.raises(AlignmentError, match="estimate is flat"):
        align(np.full_like(truth, level), truth, ILLUMINATION, REGION)
