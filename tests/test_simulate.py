"""Simulated scans: samples, probes, positions and counts; and the same scan at a lower dose."""

import numpy as np
import pytest

from ptycho.physics.forward import cut_patches, diffract, illumination
from ptycho.physics.noise import reduce_dose
from ptycho.physics.probes import (
    add_modes,
    diameter_px,
    gaussian_probe,
    illuminated_height_px,
    scale_to,
    zone_plate_probe,
)
from ptycho.physics.samples import KINDS, simulate_object
from ptycho.physics.simulate import RasterOptions, raster_positions, simulate_scan

BEAM = {"pupil_px": 13, "stop": 0.3, "defocus_px": 26, "astigmatism_rad": 0.6, "coma_rad": 0.4}


def test_the_kinds_of_samples():
    assert set(KINDS) == {"dead_leaves", "lines", "siemens"}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_samples_keep_their_ranges_and_have_structure_at_several_scales(kind):
    obj = simulate_object(kind, (160, 200), np.random.default_rng(0))
    assert obj.dtype == np.complex64
    assert obj.shape == (160, 200)
    amplitude, phase = np.abs(obj), np.angle(obj)
    assert amplitude.min() >= 0.5 - 1e-6
    assert amplitude.max() <= 1 + 1e-6
    assert np.ptp(amplitude) > 0.45
    assert 1.2 < np.ptp(phase) <= 1.6 + 1e-5
    power = np.abs(np.fft.fft2(obj - obj.mean())) ** 2
    radius = np.hypot(np.fft.fftfreq(160)[:, None], np.fft.fftfreq(200))
    shares = [
        power[(radius > low) & (radius <= high)].sum() / power.sum()
        for low, high in ((0, 0.05), (0.05, 0.15), (0.15, 0.5))
    ]
    assert min(shares) > 0.02
    np.testing.assert_array_equal(obj, simulate_object(kind, (160, 200), np.random.default_rng(0)))


def test_an_unknown_kind_is_named():
    with pytest.raises(ValueError, match="'cheese'; wanted one of"):
        simulate_object("cheese", (9, 9), np.random.default_rng(0))


def test_a_zone_plate_probe_is_defocused_and_fills_its_pupil():
    probe = zone_plate_probe(64, **BEAM)
    np.testing.assert_allclose((np.abs(probe) ** 2).sum(), 1, rtol=1e-5)
    far = np.abs(diffract(probe)) ** 2
    radius = np.hypot(*(np.indices((64, 64)) - 32))
    assert far[radius <= 14].sum() > 0.99
    assert far[radius < 3].sum() < 0.01  # the central stop
    assert 20 < diameter_px(probe) < 34
    lit = np.abs(probe) ** 2 > 0.05 * (np.abs(probe) ** 2).max()
    assert np.ptp(np.angle(probe[lit])) > 6  # phase curvature
    with pytest.raises(ValueError, match="defocus_px"):
        zone_plate_probe(64, **BEAM | {"defocus_px": 90})


def test_a_gaussian_beam_has_half_its_peak_at_half_its_width():
    probe = gaussian_probe(64, fwhm_px=12)
    power = np.abs(probe) ** 2
    np.testing.assert_allclose(power.sum(), 1, rtol=1e-5)
    np.testing.assert_allclose(power[32, [26, 38]], power[32, 32] / 2, rtol=1e-5)
    assert diameter_px(probe) == pytest.approx(12 * np.sqrt(np.log2(10)), rel=0.05)  # where 90 % of a Gaussian lie
    with pytest.raises(ValueError, match="fwhm_px 17 must lie"):
        gaussian_probe(64, fwhm_px=17)


def test_the_diameter_of_a_disc():
    radius = np.hypot(*(np.indices((101, 101)) - 50))
    # a disc of radius 20 holds 90 % within 20 sqrt(0.9)
    assert diameter_px((radius <= 20).astype(complex)) == pytest.approx(40 * np.sqrt(0.9), rel=0.02)


def test_modes_share_the_photons():
    probe = scale_to(zone_plate_probe(64, **BEAM), 500.0)
    modes = add_modes(probe, 3)
    assert modes.shape == (3, 64, 64)
    np.testing.assert_allclose((np.abs(modes) ** 2).sum(), 500, rtol=1e-4)
    (first,) = add_modes(modes[::-1], 1)  # the strongest, with the photons of all
    np.testing.assert_allclose((np.abs(first) ** 2).sum(), 500, rtol=1e-4)
    np.testing.assert_allclose(np.abs(np.vdot(first, probe)), 500, rtol=1e-4)
    assert add_modes(probe, 7).shape == (7, 64, 64)
    for count in (0, 8):
        with pytest.raises(ValueError, match=f"{count} probe modes; wanted 1 to 7"):
            add_modes(probe, count)


def lit_pixels(probe, x, y, shape):
    """Pixels that any single exposure illuminates above 1e-3 of the peak."""
    lit = np.zeros(shape, bool)
    peak = (np.abs(probe) ** 2).max()
    for position in zip(x, y, strict=True):
        lit |= illumination(probe, *(np.array([axis]) for axis in position), shape) > 1e-3 * peak
    return lit


@pytest.mark.parametrize("n", [64, 128])
def test_no_pixel_is_illuminated_in_train_and_test(n):
    probe = zone_plate_probe(n, **BEAM)
    raster = RasterOptions(columns=6, train_rows=4, test_rows=4, spacing_px=9.0, jitter_px=2.0)
    x, y, shape = raster_positions(raster, n, illuminated_height_px(probe), np.random.default_rng(0))
    train, test = (lit_pixels(probe, x[part], y[part], shape) for part in (np.s_[:24], np.s_[24:]))
    assert train.any()
    assert test.any()
    assert not (train & test).any()
    cut_patches(np.zeros(shape), x, y, n)  # every window fits


def test_counts_do_not_depend_on_the_block_size_and_have_the_dose():
    probe = scale_to(zone_plate_probe(64, **BEAM), 3000)
    raster = RasterOptions(columns=8, train_rows=8, test_rows=1, spacing_px=7.0, jitter_px=1.0)
    x, y, shape = raster_positions(raster, 64, 70, np.random.default_rng(0))
    flat = np.ones(shape, np.complex64)
    runs = [
        np.concatenate(list(simulate_scan(flat, probe, (x, y), np.random.default_rng(5), block)))
        for block in (1, 7, 100)
    ]
    np.testing.assert_array_equal(runs[0], runs[1])
    np.testing.assert_array_equal(runs[0], runs[2])
    counts = runs[0].astype(float) ** 2
    np.testing.assert_allclose(counts, np.rint(counts), atol=1e-4)
    np.testing.assert_allclose(counts.sum(axis=(1, 2)).mean(), 3000, rtol=0.01)


def test_counts_of_a_reduced_dose_are_poisson_again():
    rng = np.random.default_rng(0)
    frames = np.sqrt(rng.poisson(20.0, (500, 16, 16))).astype(np.float32)
    counts = np.concatenate(list(reduce_dose(frames, 0.3, rng))) ** 2
    np.testing.assert_allclose([counts.mean(), counts.var()], 6, rtol=0.02)
    with pytest.raises(ValueError, match="exceeds what was measured"):
        next(reduce_dose(frames, 1.5, rng))
