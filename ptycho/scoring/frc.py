"""Fourier ring correlation (FRC): the spatial frequency up to which two images agree.

The two images are an estimate and the truth, or reconstructions of two independent halves of the data.
docs/reference/metrics.md gives formulas and sources.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft

TRUTH_THRESHOLD = 0.5
"""FRC with the truth that counts as resolved."""

TUKEY_TAPER = 0.25
"""Fraction of each side over which the Tukey window rises and falls, half of it at either end."""

HALF_BIT_SNR = float(np.sqrt(2) / 2 - 0.5)
"""Signal-to-noise ratio of one half, 0.2071, at which the whole carries ½ bit: log₂(1 + 2 · 0.2071) = ½."""

ONE_BIT_SNR = 0.5
"""Signal-to-noise ratio of one half at which the whole carries one bit: log₂(1 + 2 · 0.5) = 1."""

THRESHOLDS = ("1/7", "half-bit", "1-bit")
"""Names of the thresholds for two independent halves, see `half_thresholds`."""

TABLE_COLUMNS = ("method", "part", "frequency", "frc", "ssnr")
"""Columns of the FRC of several methods with the truth, see `ptycho.scoring.evaluate.frc_table`."""


def frc(image: NDArray[np.floating], truth: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fourier ring correlation of two real images.

    The mean is subtracted before a Tukey window is applied. A ring is one frequency step of the shorter side wide.

    Parameters
    ----------
    image, truth : (h, w) float
        Images on the same pixels.

    Returns
    -------
    frequency : (n,) float64
        Center of each ring as a fraction of Nyquist, n = min(h, w) // 2; the zero frequency is left out.
    correlation : (n,) float64
        Σ Re(F G*) / sqrt(Σ|F|² Σ|G|²) over the ring; 0 where an image has no power.

    Notes
    -----
    Saxton and Baumeister, J. Microsc. 127, 127 (1982); van Heel and Schatz, J. Struct. Biol. 151, 250 (2005).
    """
    window = _window(truth.shape)
    image_spectrum, truth_spectrum = (fft.fft2((x - x.mean()) * window) for x in (image, truth))
    ring, n_rings = _rings(truth.shape)
    inside = (ring > 0) & (ring <= n_rings)

    def ring_sum(values: NDArray[np.floating]) -> NDArray[np.float64]:
        return np.asarray(np.bincount(ring[inside], values[inside], n_rings + 1)[1:], np.float64)

    cross = ring_sum((image_spectrum * truth_spectrum.conj()).real)
    norm = np.sqrt(ring_sum(np.abs(image_spectrum) ** 2) * ring_sum(np.abs(truth_spectrum) ** 2))
    correlation = np.divide(cross, norm, out=np.zeros(n_rings), where=norm > 0)
    return np.arange(1, n_rings + 1) / n_rings, correlation


def frc_crossing(
    frequency: NDArray[np.floating], correlation: NDArray[np.floating], threshold: ArrayLike = TRUTH_THRESHOLD
) -> float:
    """Frequency at which an FRC first falls below a threshold.

    The curve starts at (0, 1) and is linear between rings.

    Parameters
    ----------
    frequency, correlation : (n,) float
        As `frc` returns them.
    threshold : float or (n,) float
        One value, or one per ring; below the first ring it equals that of the first ring.

    Returns
    -------
    float
        Fraction of Nyquist; 1.0 if the curve never falls below the threshold.
    """
    excess = correlation - np.broadcast_to(threshold, np.shape(correlation))
    below = np.flatnonzero(excess < 0)
    if not below.size:
        return 1.0
    start = 1.0 - np.ravel(threshold)[0]
    frequency, excess, after = np.append(0.0, frequency), np.append(start, excess), below[0] + 1
    fraction = excess[after - 1] / (excess[after - 1] - excess[after])
    return float(frequency[after - 1] + fraction * (frequency[after] - frequency[after - 1]))


def ssnr_of_truth(correlation: ArrayLike) -> NDArray[np.float64]:
    """Spectral signal-to-noise ratio of an image from its FRC with the noise-free truth.

    Parameters
    ----------
    correlation : (n,) float
        FRC; a negative one counts as 0.

    Returns
    -------
    (n,) float64
        FRC² / (1 - FRC²); infinite where the FRC is 1. At `TRUTH_THRESHOLD` it is 1/3.
    """
    power = np.clip(correlation, 0, 1) ** 2
    with np.errstate(divide="ignore"):
        return power / (1 - power)


def ssnr_of_halves(correlation: ArrayLike) -> NDArray[np.float64]:
    """Spectral signal-to-noise ratio of the whole data from the FRC of two independent halves.

    Parameters
    ----------
    correlation : (n,) float
        FRC; a negative one counts as 0.

    Returns
    -------
    (n,) float64
        2 FRC / (1 - FRC); infinite where the FRC is 1.
    """
    clipped = np.clip(correlation, 0, 1)
    with np.errstate(divide="ignore"):
        return 2 * clipped / (1 - clipped)


def independent_values(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Count the independent Fourier values in each ring.

    A real image repeats itself at opposite frequencies, which halves the number of the ring's pixels. The window w
    correlates neighboring values, which multiplies it by (Σ w²)² / (N Σ w⁴) = 0.757 for N pixels. The result is
    conservative: the FRC of pure noise has a fifth less variance, because most correlated neighbors lie in other rings.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns of the images.

    Returns
    -------
    (n,) float64
        One value per ring of `frc`.
    """
    ring, n_rings = _rings(shape)
    window = _window(shape)
    factor = np.sum(window**2) ** 2 / (window.size * np.sum(window**4))
    return np.bincount(ring.ravel(), minlength=n_rings + 1)[1 : n_rings + 1] * factor / 2


def information_threshold(half_snr: float, values: ArrayLike) -> NDArray[np.float64]:
    """FRC expected between two halves of a given signal-to-noise ratio, for n independent values per ring.

    (s + (2 √s + 1) / √n) / (s + 1 + 2 √s / √n). With `HALF_BIT_SNR` this is the ½-bit curve,
    (0.2071 + 1.9102 / √n) / (1.2071 + 0.9102 / √n); with `ONE_BIT_SNR` the 1-bit curve,
    (0.5 + 2.4142 / √n) / (1.5 + 1.4142 / √n).

    Parameters
    ----------
    half_snr : float
        s, ratio of the signal's power to the noise power of one half.
    values : (n_rings,) float
        n, as `independent_values` returns it; values below 1 count as 1.

    Returns
    -------
    (n_rings,) float64

    Notes
    -----
    van Heel and Schatz, J. Struct. Biol. 151, 250 (2005).
    """
    chance = 1 / np.sqrt(np.maximum(values, 1))
    root = 2 * np.sqrt(half_snr)
    return (half_snr + (root + 1) * chance) / (half_snr + 1 + root * chance)


def half_thresholds(shape: tuple[int, ...]) -> dict[str, NDArray[np.float64]]:
    """FRC thresholds for two independent halves.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns of the images.

    Returns
    -------
    dict of (n,) float64
        Name, one of `THRESHOLDS` -> threshold of each ring.
    """
    values = independent_values(shape)
    return {
        "1/7": np.full(len(values), 1 / 7),
        "half-bit": information_threshold(HALF_BIT_SNR, values),
        "1-bit": information_threshold(ONE_BIT_SNR, values),
    }


def _rings(shape: tuple[int, ...]) -> tuple[NDArray[np.int_], int]:
    """Ring of every Fourier pixel, 0 for the zero frequency, and the number of rings inside Nyquist."""
    n_rings = min(shape) // 2
    f_y, f_x = (fft.fftfreq(n, 0.5) for n in shape)  # Nyquist = 1
    return np.rint(np.hypot(f_y[:, None], f_x) * n_rings).astype(int), n_rings


def _window(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Tukey window of an image."""
    from scipy import signal  # imports for a second, which every figure would have to wait for

    rows, columns = (signal.windows.tukey(n, TUKEY_TAPER) for n in shape)
    return rows[:, None] * columns
