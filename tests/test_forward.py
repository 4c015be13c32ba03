"""The forward model: transforms, windows and sub-pixel shifts, intensities, photon counts."""

import numpy as np
import pytest

from ptycho.physics import forward, noise


def random_wave(rng, *shape):
    return rng.normal(size=shape) + 1j * rng.normal(size=shape)


@pytest.mark.parametrize("n", [8, 16, 17])
def test_a_flat_wave_lands_on_the_zero_frequency(n):
    far = np.abs(forward.diffract(np.ones((n, n))))
    assert np.unravel_index(far.argmax(), far.shape) == (n // 2, n // 2)


@pytest.mark.parametrize("n", [8, 15])
def test_diffraction_is_unitary_and_inverse_diffraction_its_inverse(n):
    wave = random_wave(np.random.default_rng(0), 3, n, n)
    far = forward.diffract(wave)
    np.testing.assert_allclose((np.abs(far) ** 2).sum(), (np.abs(wave) ** 2).sum())
    np.testing.assert_allclose(forward.inverse_diffract(far), wave, atol=1e-12)


def test_inverse_diffraction_is_the_adjoint():
    rng = np.random.default_rng(1)
    a, b = random_wave(rng, 16, 16), random_wave(rng, 16, 16)
    np.testing.assert_allclose(np.vdot(b, forward.diffract(a)), np.vdot(forward.inverse_diffract(b), a))


def test_fringes_land_as_many_pixels_from_the_center_as_there_are_in_a_window():
    n = 8
    y, x = np.indices((n, n)) - n // 2
    far = np.abs(forward.diffract(np.exp(2j * np.pi * (2 * y + 3 * x) / n)))
    assert np.unravel_index(far.argmax(), far.shape) == (n // 2 + 2, n // 2 + 3)


def test_positions_split_into_pixel_and_rest():
    pixel, rest = forward.split_position([2.0, 2.25, 2.5, 2.75, -0.5])
    assert pixel.tolist() == [2, 2, 3, 3, 0]
    np.testing.assert_allclose(rest, [0, 0.25, -0.5, -0.25, -0.5])


def test_the_pixel_at_the_position_is_pixel_half_n_of_the_window():
    obj = np.zeros((20, 30), complex)
    obj[9, 17] = 1  # one bright pixel at y = 9, x = 17
    patch = forward.cut_patches(obj, np.array([17.0]), np.array([9.0]), 8)[0]
    assert np.argwhere(patch).tolist() == [[4, 4]]
    patch = forward.cut_patches(obj, np.array([17.0 + 3]), np.array([9.0 + 1]), 8)[0]
    assert np.argwhere(patch).tolist() == [[3, 1]]  # the window moved down 1 and right 3


def test_windows_that_leave_the_object_are_refused():
    with pytest.raises(ValueError, match="20 × 30"):
        forward.cut_patches(np.zeros((20, 30)), np.array([3.0]), np.array([9.0]), 8)


def test_shifting_by_a_pixel_moves_right_and_down():
    probe = random_wave(np.random.default_rng(2), 8, 8)
    np.testing.assert_allclose(forward.shift_probe(probe, 1, 0), np.roll(probe, 1, axis=0), atol=1e-12)
    np.testing.assert_allclose(forward.shift_probe(probe, 0, 1), np.roll(probe, 1, axis=1), atol=1e-12)
    there_and_back = forward.shift_probe(forward.shift_probe(probe, 0.3, -0.2), -0.3, 0.2)
    np.testing.assert_allclose(there_and_back, probe, atol=1e-12)


def test_ramps_shift_many_waves_at_once():
    probe, shift_y, shift_x = random_wave(np.random.default_rng(2), 8, 8), np.array([0.3, -1.0]), np.array([0.0, 0.25])
    down, across = forward.shift_ramps(shift_y, shift_x, 8)
    assert (down.shape, across.shape) == ((2, 8, 1), (2, 1, 8))
    shifted = np.fft.ifft2(np.fft.fft2(probe) * down * across)
    for wave, y, x in zip(shifted, shift_y, shift_x, strict=True):
        np.testing.assert_allclose(wave, forward.shift_probe(probe, y, x), atol=1e-12)


def test_ramps_shift_a_wave_that_is_not_square():
    wave = random_wave(np.random.default_rng(2), 6, 10)
    down, across = forward.shift_ramps(1, -2, wave.shape)
    assert (down.shape, across.shape) == ((6, 1), (1, 10))
    shifted = np.fft.ifft2(np.fft.fft2(wave) * down * across)
    np.testing.assert_allclose(shifted, np.roll(wave, (1, -2), axis=(0, 1)), atol=1e-12)


def direct_intensity(obj, probe, x, y):
    """Independent float64 implementation: DFT matrices, and the shift as multiplication in Fourier space."""
    n = probe.shape[-1]
    k = np.arange(n) - n // 2
    dft = np.exp(-2j * np.pi * np.outer(k, k) / n) / np.sqrt(n)
    row, column = int(np.floor(y + 0.5)), int(np.floor(x + 0.5))
    spectrum = dft @ probe @ dft.T
    ramp_y, ramp_x = (np.exp(-2j * np.pi * k * rest / n) for rest in (y - row, x - column))
    shifted = dft.conj().T @ (spectrum * np.outer(ramp_y, ramp_x)) @ dft.conj()
    window = obj[row - n // 2 : row + n // 2, column - n // 2 : column + n // 2]
    return np.abs(dft @ (window * shifted) @ dft.T) ** 2


def test_intensity_agrees_with_an_independent_implementation():
    rng = np.random.default_rng(3)
    obj, probe = random_wave(rng, 40, 50), random_wave(rng, 16, 16)
    x, y = rng.uniform(9, 40, 7), rng.uniform(9, 30, 7)
    ours = forward.predict_intensity(obj, probe, x, y)
    direct = np.stack([direct_intensity(obj, probe, *position) for position in zip(x, y, strict=True)])
    assert np.abs(ours - direct).max() <= 1e-10 * direct.max()


def test_modes_add_in_intensity():
    rng = np.random.default_rng(4)
    obj, probe, at = random_wave(rng, 20, 20), random_wave(rng, 2, 8, 8), (np.array([9.3]), np.array([10.6]))
    both = forward.predict_intensity(obj, probe, *at)
    np.testing.assert_allclose(both, sum(forward.predict_intensity(obj, mode, *at) for mode in probe))


def test_counts_are_poisson():
    counts = noise.shot_noise(np.full((4000, 8, 8), 7.0), np.random.default_rng(5)) ** 2
    assert counts.dtype == np.float32
    np.testing.assert_allclose(counts.mean(), 7, rtol=0.01)
    np.testing.assert_allclose(counts.var(), 7, rtol=0.01)


def test_illumination_adds_up_to_the_photons_and_is_cut_at_the_map():
    probe = random_wave(np.random.default_rng(6), 8, 8)
    x, y = np.array([10.2, 14.0]), np.array([9.0, 11.7])
    whole = forward.illumination(probe, x, y, (24, 26))
    np.testing.assert_allclose(whole.sum(), 2 * (np.abs(probe) ** 2).sum())
    cut = forward.illumination(probe, x, y, (5, 6), (8, 9))
    np.testing.assert_allclose(cut, whole[8:13, 9:15])
    assert forward.illumination(probe, x, y, (5, 5), (100, 100)).sum() == 0


def test_the_mean_transmittance_is_the_amplitude_of_a_flat_sample():
    probe = random_wave(np.random.default_rng(7), 2, 8, 8)
    x, y = np.array([10.2, 14.0, 12.5]), np.array([9.0, 11.7, 10.0])
    detected = forward.predict_intensity(np.full((24, 26), 0.7 + 0j), probe, x, y).sum()
    assert forward.mean_transmittance(detected, 3, probe) == pytest.approx(0.7)
