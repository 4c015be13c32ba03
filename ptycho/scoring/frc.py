"""Fourier ring correlation: down to which detail two images agree.

Of an estimate with the truth, or of the reconstructions of two independent halves of the data, which say the same in
other numbers. docs/metrics.md has the formulas and sources.
"""

import numpy as np
from scipy import fft

TUKEY_TAPER = 0.25
"""Share of each side over which the Tukey window rises and falls, half of it at either end."""

HALF_BIT_SNR = np.sqrt(2) / 2 - 0.5
"""Signal-to-noise ratio of a half, 0.2071, that leaves the whole ½ bit of information: log₂(1 + 2 · 0.2071) = ½."""

ONE_BIT_SNR = 0.5
"""The same for one bit: log₂(1 + 2 · 0.5) = 1."""


def frc(image, truth):
    """Fourier ring correlation of two real images.

    The mean is taken off, then a Tukey window put on. Rings are one frequency step of the shorter side wide.

    Parameters
    ----------
    image, truth : (h, w) float
        Images on the same pixels.

    Returns
    -------
    frequency : (n,) float64
        Middle of each ring as a fraction of Nyquist, n = min(h, w) // 2; the zero frequency is left out.
    correlation : (n,) float64
        Σ Re(F G*) / sqrt(Σ|F|² Σ|G|²) over the ring; 0 where an image has nothing.

    Notes
    -----
    Saxton and Baumeister, J. Microsc. 127, 127 (1982); van Heel and Schatz, J. Struct. Biol. 151, 250 (2005).
    """
    window = _window(truth.shape)
    one, two = (fft.fft2((x - x.mean()) * window) for x in (image, truth))
    ring, n_rings = _rings(truth.shape)
    inside = (ring > 0) & (ring <= n_rings)

    def total(power):
        return np.bincount(ring[inside], power[inside], n_rings + 1)[1:]

    cross, norm = total((one * two.conj()).real), np.sqrt(total(np.abs(one) ** 2) * total(np.abs(two) ** 2))
    correlation = np.divide(cross, norm, out=np.zeros(n_rings), where=norm > 0)
    return np.arange(1, n_rings + 1) / n_rings, correlation


def frc_crossing(frequency, correlation, threshold=0.5) -> float:
    """Where a curve from (0, 1) first falls below a threshold, linear between rings; 1.0 if it never does.

    Parameters
    ----------
    frequency, correlation : (n,) float
        As `frc` returns them.
    threshold : float or (n,) float
        A number, or one for each ring; below the first ring that of the first ring.
    """
    above = correlation - np.broadcast_to(threshold, np.shape(correlation))
    below = np.flatnonzero(above < 0)
    if not below.size:
        return 1.0
    start = 1.0 - np.ravel(threshold)[0]
    frequency, above, after = np.append(0.0, frequency), np.append(start, above), below[0] + 1
    rise = above[after - 1] / (above[after - 1] - above[after])
    return float(frequency[after - 1] + rise * (frequency[after] - frequency[after - 1]))


def ssnr_of_truth(correlation):
    """Spectral signal-to-noise ratio of an image from its FRC with the noise-free truth, FRC² / (1 - FRC²)."""
    power = np.clip(correlation, 0, 1) ** 2
    with np.errstate(divide="ignore"):
        return power / (1 - power)


def ssnr_of_halves(correlation):
    """Spectral signal-to-noise ratio of the whole from the FRC of two independent halves, 2 FRC / (1 - FRC)."""
    share = np.clip(correlation, 0, 1)
    with np.errstate(divide="ignore"):
        return 2 * share / (1 - share)


def independent_values(shape):
    """Independent Fourier values in each ring, (n,) float64.

    Half of the ring's pixels, as a real image repeats itself at opposite frequencies, times (Σ w²)² / (N Σ w⁴) = 0.757
    for the N pixels of the window w, which spreads every value over its neighbors. On the safe side: noise alone shows
    a fifth more, as most of those neighbors lie in other rings.
    """
    ring, n_rings = _rings(shape)
    window = _window(shape)
    share = np.sum(window**2) ** 2 / (window.size * np.sum(window**4))
    return np.bincount(ring.ravel(), minlength=n_rings + 1)[1 : n_rings + 1] * share / 2


def information_threshold(half_snr: float, values):
    """FRC that two halves have where each has a signal-to-noise ratio, and n independent values to tell by.

    (s + (2 √s + 1) / √n) / (s + 1 + 2 √s / √n): the ½-bit curve for `HALF_BIT_SNR`, (0.2071 + 1.9102 / √n) /
    (1.2071 + 0.9102 / √n), and the 1-bit curve for `ONE_BIT_SNR`, (0.5 + 2.4142 / √n) / (1.5 + 1.4142 / √n).

    Parameters
    ----------
    half_snr : float
        s, power of the signal over that of one half's noise.
    values : (n_rings,) float
        n, as of `independent_values`; below one, one.

    Notes
    -----
    van Heel and Schatz, J. Struct. Biol. 151, 250 (2005).
    """
    chance = 1 / np.sqrt(np.maximum(values, 1))
    root = 2 * np.sqrt(half_snr)
    return (half_snr + (root + 1) * chance) / (half_snr + 1 + root * chance)


def half_thresholds(shape) -> dict:
    """Thresholds for two independent halves: "1/7", "half-bit" and "1-bit" -> (n,) float64."""
    values = independent_values(shape)
    return {
        "1/7": np.full(len(values), 1 / 7),
        "half-bit": information_threshold(HALF_BIT_SNR, values),
        "1-bit": information_threshold(ONE_BIT_SNR, values),
    }


def _rings(shape):
    """Ring of every Fourier pixel, 0 for the zero frequency, and the number of rings inside Nyquist."""
    n_rings = min(shape) // 2
    f_y, f_x = (fft.fftfreq(n, 0.5) for n in shape)  # Nyquist = 1
    return np.rint(np.hypot(f_y[:, None], f_x) * n_rings).astype(int), n_rings


def _window(shape):
    from scipy import signal  # takes a second, for which every picture would wait

    down, across = (signal.windows.tukey(n, TUKEY_TAPER) for n in shape)
    return down[:, None] * across
