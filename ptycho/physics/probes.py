"""Illuminations: the focused, aberrated, defocused beam of a zone plate, a Gaussian one, and the size of a beam."""

import numpy as np
from numpy.typing import NDArray

from ptycho.physics.forward import as_modes, inverse_diffract


def zone_plate_probe(
    n: int, *, pupil_px: float, stop: float, defocus_px: float, astigmatism: float, coma: float
) -> NDArray[np.complex64]:
    """Beam behind an annular pupil, out of focus: a disc with fringes and phase curvature.

    The pupil A(u) exp(i W(u)) is transformed to the sample plane; W is the defocus of paraxial optics,
    W = -π Δ |u|² (Goodman, Introduction to Fourier Optics, 2005, §6.4), plus third-order astigmatism and coma.
    A ray through pupil position u lands at -∇W/2π, so that the defocus of `defocus_px` opens the beam to that diameter.

    Parameters
    ----------
    n : int
        Side of the window [px].
    pupil_px : float
        Radius of the pupil on the detector [px].
    stop : float
        Radius of the central stop as a fraction of the pupil's.
    defocus_px : float
        Diameter of the geometric beam at the sample [px].
    astigmatism, coma : float
        Phase at the pupil's edge [rad].

    Returns
    -------
    (n, n) complex64
        Probe with Σ|P|² = 1, centered at [n // 2, n // 2].

    Raises
    ------
    ValueError
        If pupil or beam do not fit the window.
    """
    if not (0 < pupil_px <= n / 2 and 0 < defocus_px <= n):
        raise ValueError(f"pupil_px {pupil_px} and defocus_px {defocus_px} must lie in (0, {n / 2}] and (0, {n}]")
    axis = (np.arange(n) - n // 2) / pupil_px
    v, u = np.meshgrid(axis, axis, indexing="ij")
    rho = np.hypot(u, v)
    edge = 0.5 / pupil_px
    aperture = np.clip((1 - rho) / (2 * edge) + 0.5, 0, 1) - np.clip((stop - rho) / (2 * edge) + 0.5, 0, 1) * (stop > 0)
    curvature = np.pi * defocus_px * pupil_px / (2 * n)
    wavefront = -curvature * rho**2 + astigmatism * (u**2 - v**2) + coma * (3 * rho**2 - 2) * u
    wave = inverse_diffract(aperture * np.exp(1j * wavefront))
    return (wave / np.linalg.norm(wave)).astype(np.complex64)


def gaussian_probe(n: int, *, fwhm_px: float) -> NDArray[np.complex64]:
    """Beam at the waist of a Gaussian mode: no structure, no phase, its photons in the middle of the detector.

    Parameters
    ----------
    n : int
        Side of the window [px].
    fwhm_px : float
        Full width at half maximum of the intensity [px].

    Returns
    -------
    (n, n) complex64
        Probe with Σ|P|² = 1, centered at [n // 2, n // 2].

    Raises
    ------
    ValueError
        If the beam does not fit the window: wider than a quarter of it.
    """
    if not 0 < fwhm_px <= n / 4:
        raise ValueError(f"fwhm_px {fwhm_px} must lie in (0, {n / 4}]")
    amplitude = np.exp2(-2 * ((np.arange(n) - n // 2) / fwhm_px) ** 2)
    wave = np.outer(amplitude, amplitude)
    return (wave / np.linalg.norm(wave)).astype(np.complex64)


def scale_to(probe: NDArray, photons: float) -> NDArray[np.complex64]:
    """Scale a probe to Σ|P|² = photons over all its modes."""
    return (probe * np.sqrt(photons / np.sum(np.abs(probe) ** 2, dtype=np.float64))).astype(np.complex64)


def first_mode(probe: NDArray) -> NDArray[np.complex64]:
    """Return the strongest mode, (N, N) complex64, scaled to the photons of all modes: what the networks use."""
    modes = as_modes(probe)
    power = np.sum(np.abs(modes) ** 2, axis=(1, 2), dtype=np.float64)
    return scale_to(modes[power.argmax()], power.sum())


def add_modes(probe: NDArray, count: int, fraction: float = 0.05) -> NDArray[np.complex64]:
    """Return the strongest mode with `count` - 1 weak ones beside it, to start a refinement of incoherent modes.

    The further modes are the first one times x, y, x y … about its center, each with `fraction` of the photons.

    Returns
    -------
    (count, N, N) complex64
        With the photons of the whole probe.
    """
    main = first_mode(probe)
    y, x = np.indices(main.shape) - main.shape[0] // 2
    shapes = [x, y, x * y, x**2 - y**2, x**3, y**3][: count - 1]
    photons = np.sum(np.abs(main) ** 2, dtype=np.float64)
    modes = [
        scale_to(main, photons * (1 - fraction * len(shapes))),
        *(scale_to(main * shape, photons * fraction) for shape in shapes),
    ]
    return np.stack(modes)


def diameter_px(probe: NDArray, fraction: float = 0.9) -> float:
    """Diameter of the circle around the center of mass that holds a fraction of the photons [px].

    This is the beam size of the linear overlap o = 1 - spacing / diameter (Bunk et al., Ultramicroscopy 108, 2008).
    """
    intensity = np.sum(np.abs(as_modes(probe)) ** 2, axis=0, dtype=np.float64)
    y, x = np.indices(intensity.shape)
    total = intensity.sum()
    radius = np.hypot(y - (intensity * y).sum() / total, x - (intensity * x).sum() / total).ravel()
    order = radius.argsort()
    return float(2 * np.interp(fraction, intensity.ravel()[order].cumsum() / total, radius[order]))


def illuminated_height_px(probe: NDArray, threshold: float = 1.0e-3) -> float:
    """Distance in y beyond which two windows share no pixel lit above `threshold` of the peak, shifts included.

    Sub-pixel shifts spread the tails of a sharp-edged beam, so a margin of two pixels is added; it is never more than
    the window.
    """
    intensity = np.sum(np.abs(as_modes(probe)) ** 2, axis=0)
    n = intensity.shape[0]
    rows = np.flatnonzero((intensity > 0.2 * threshold * intensity.max()).any(axis=1))
    return float(min(rows[-1] - rows[0] + 3, n + 1))
