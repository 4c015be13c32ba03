"""Illuminations: aberrated, defocused beam of a zone plate, Gaussian beam; modes, photons and size of a beam."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.physics.forward import as_modes, inverse_diffract


def zone_plate_probe(
    n_pixels: int, *, pupil_px: float, stop: float, defocus_px: float, astigmatism_rad: float, coma_rad: float
) -> NDArray[np.complex64]:
    """Defocused beam of an annular pupil: a disc with fringes and phase curvature.

    The pupil A(u) exp(i W(u)) is transformed to the sample plane; W is the defocus of paraxial optics,
    W = -π Δ |u|² (Goodman, Introduction to Fourier Optics, 2005, §6.4), plus third-order astigmatism and coma.
    A ray through pupil position u lands at -∇W/2π, so that the defocus of `defocus_px` opens the beam to that diameter.

    Parameters
    ----------
    n_pixels : int
        N, side of the window [px].
    pupil_px : float
        Radius of the pupil on the detector [px].
    stop : float
        Radius of the central stop as a fraction of the pupil's.
    defocus_px : float
        Diameter of the geometric beam at the sample [px].
    astigmatism_rad, coma_rad : float
        Phase at the pupil's edge [rad].

    Returns
    -------
    (N, N) complex64
        Probe with Σ|P|² = 1, centered at [N // 2, N // 2].

    Raises
    ------
    ValueError
        If the pupil or the beam does not fit the window.
    """
    if not (0 < pupil_px <= n_pixels / 2 and 0 < defocus_px <= n_pixels):
        raise ValueError(
            f"pupil_px {pupil_px} and defocus_px {defocus_px} must lie in (0, {n_pixels / 2}] and (0, {n_pixels}]"
        )
    axis = (np.arange(n_pixels) - n_pixels // 2) / pupil_px
    v, u = np.meshgrid(axis, axis, indexing="ij")
    rho = np.hypot(u, v)
    edge = 0.5 / pupil_px
    aperture = np.clip((1 - rho) / (2 * edge) + 0.5, 0, 1) - np.clip((stop - rho) / (2 * edge) + 0.5, 0, 1) * (stop > 0)
    curvature = np.pi * defocus_px * pupil_px / (2 * n_pixels)
    wavefront = -curvature * rho**2 + astigmatism_rad * (u**2 - v**2) + coma_rad * (3 * rho**2 - 2) * u
    wave = inverse_diffract(aperture * np.exp(1j * wavefront))
    return (wave / np.linalg.norm(wave)).astype(np.complex64)


def gaussian_probe(n_pixels: int, *, fwhm_px: float) -> NDArray[np.complex64]:
    """Beam at the waist of a Gaussian mode: no structure, no phase, its photons in the middle of the detector.

    Parameters
    ----------
    n_pixels : int
        N, side of the window [px].
    fwhm_px : float
        Full width at half maximum of the intensity [px].

    Returns
    -------
    (N, N) complex64
        Probe with Σ|P|² = 1, centered at [N // 2, N // 2].

    Raises
    ------
    ValueError
        If the beam does not fit the window: wider than a quarter of it.
    """
    if not 0 < fwhm_px <= n_pixels / 4:
        raise ValueError(f"fwhm_px {fwhm_px} must lie in (0, {n_pixels / 4}]")
    amplitude = np.exp2(-2 * ((np.arange(n_pixels) - n_pixels // 2) / fwhm_px) ** 2)
    wave = np.outer(amplitude, amplitude)
    return (wave / np.linalg.norm(wave)).astype(np.complex64)


def simulate_probe(kind: str, *, modes: Sequence[float] = (1.0,), **options: Any) -> NDArray[np.complex64]:
    """Simulate an illumination as a config describes it.

    Parameters
    ----------
    kind : str
        "zone_plate" or "gaussian".
    modes : sequence of float
        Fractions of the photons in incoherent modes, see `incoherent_modes`.
    **options
        Those of `zone_plate_probe` or `gaussian_probe`.

    Returns
    -------
    (N, N) or, of several modes, (modes, N, N) complex64
        Probe with Σ|P|² = 1.

    Raises
    ------
    ValueError
        If the beam does not fit the window, or there are more than 7 modes.
    """
    makers: dict[str, Callable[..., NDArray[np.complex64]]] = {
        "gaussian": gaussian_probe,
        "zone_plate": zone_plate_probe,
    }
    probe = makers[kind](**options)
    return probe if len(modes) == 1 else incoherent_modes(probe, modes)


def scale_to(probe: NDArray[np.complexfloating], photons: float) -> NDArray[np.complex64]:
    """Scale a probe to Σ|P|² = photons over all its modes."""
    return (probe * np.sqrt(photons / np.sum(np.abs(probe) ** 2, dtype=np.float64))).astype(np.complex64)


def add_modes(probe: NDArray[np.complexfloating], count: int, fraction: float = 0.05) -> NDArray[np.complex64]:
    """Return the strongest mode and `count` - 1 weak ones, the start of a refinement of incoherent modes.

    The further modes are the strongest one times x, y, x y … about the center of the window.

    Parameters
    ----------
    probe : (N, N) or (modes, N, N) complex
        Illumination [sqrt(photon)].
    count : int
        Number of modes, 1 to 7.
    fraction : float
        Fraction of the photons in each further mode.

    Returns
    -------
    (count, N, N) complex64
        Modes with the photons of the whole probe.

    Raises
    ------
    ValueError
        If `count` is not in 1 to 7.
    """
    known = as_modes(probe)
    power = np.sum(np.abs(known) ** 2, axis=(1, 2), dtype=np.float64)
    main = scale_to(known[power.argmax()], power.sum())
    shapes = _polynomials(main.shape[0], count)[1:]
    photons = np.sum(np.abs(main) ** 2, dtype=np.float64)
    modes = [
        scale_to(main, photons * (1 - fraction * len(shapes))),
        *(scale_to(main * shape, photons * fraction) for shape in shapes),
    ]
    return np.stack(modes)


def incoherent_modes(probe: NDArray[np.complexfloating], fractions: Sequence[float]) -> NDArray[np.complex64]:
    """Return a partially coherent beam: the probe, and the probe times x, y, x y … about the center, orthonormalized.

    Of a Gaussian beam these are Hermite-Gaussian modes, those of a Gaussian Schell-model source (Starikov and Wolf, J.
    Opt. Soc. Am. 72, 923, 1982); ptychography with incoherent modes is that of Thibault and Menzel, Nature 494, 68
    (2013).

    Parameters
    ----------
    probe : (N, N) complex
        First mode, with any number of photons.
    fractions : sequence of float
        Fraction of the photons in each mode, 1 to 7 of them; their sum is taken for 1.

    Returns
    -------
    (modes, N, N) complex64
        Modes with Σ|P|² = 1 over all of them.

    Raises
    ------
    ValueError
        If there are not 1 to 7 modes.
    """
    shapes = _polynomials(probe.shape[-1], len(fractions))
    columns = np.stack([(probe * shape).ravel() for shape in shapes], axis=1).astype(np.complex128)
    basis, triangle = np.linalg.qr(columns / np.linalg.norm(columns, axis=0))
    basis = basis * np.exp(1j * np.angle(np.diag(triangle)))  # the first mode is the probe itself
    return scale_to((basis * np.sqrt(fractions)).T.reshape(-1, *probe.shape), 1.0)


def with_modes(probe: NDArray[np.complexfloating], count: int, fraction: float = 0.05) -> NDArray[np.complex64]:
    """Return a probe with at least `count` modes: those that it lacks start weak, as in `incoherent_modes`.

    Parameters
    ----------
    probe : (modes, N, N) complex
        Illumination [sqrt(photon)].
    count : int
        Number of modes, 1 to 7.
    fraction : float
        Fraction of the photons in each new mode.

    Returns
    -------
    (max(modes, count), N, N) complex64
        Modes with the photons of the whole probe; the new ones are orthogonal to those that there are.
    """
    missing = count - len(probe)
    if missing <= 0:
        return probe.astype(np.complex64)
    power = np.sum(np.abs(probe) ** 2, axis=(1, 2), dtype=np.float64)
    shapes = _polynomials(probe.shape[-1], count)[-missing:]
    known = [mode.ravel() for mode in probe]
    columns = np.stack([*known, *((probe[power.argmax()] * shape).ravel() for shape in shapes)], axis=1)
    basis, _ = np.linalg.qr(columns.astype(np.complex128) / np.linalg.norm(columns, axis=0))
    new = [scale_to(mode.reshape(probe.shape[1:]), power.sum() * fraction) for mode in basis.T[len(probe) :]]
    return np.stack([*scale_to(probe, power.sum() * (1 - fraction * missing)), *new])


def _polynomials(n_pixels: int, count: int) -> list[NDArray[np.float64]]:
    """Return 1, x, y, x y … about the center of a window [px]; 1 to 7 of them."""
    y, x = np.indices((n_pixels, n_pixels)) - float(n_pixels // 2)
    shapes = [np.ones_like(x), x, y, x * y, x**2 - y**2, x**3, y**3]
    if not 1 <= count <= len(shapes):
        raise ValueError(f"{count} probe modes; wanted 1 to {len(shapes)}")
    return shapes[:count]


def diameter_px(probe: NDArray[np.complexfloating], fraction: float = 0.9) -> float:
    """Diameter of the circle around the center of mass that holds a fraction of the photons [px].

    This is the beam size of the linear overlap o = 1 - spacing / diameter (Bunk et al., Ultramicroscopy 108, 481,
    2008).

    Parameters
    ----------
    probe : (N, N) or (modes, N, N) complex
        Illumination.
    fraction : float
        Fraction of the photons inside the circle.
    """
    intensity = np.sum(np.abs(as_modes(probe)) ** 2, axis=0, dtype=np.float64)
    y, x = np.indices(intensity.shape)
    total = intensity.sum()
    radius = np.hypot(y - (intensity * y).sum() / total, x - (intensity * x).sum() / total).ravel()
    order = radius.argsort()
    return float(2 * np.interp(fraction, intensity.ravel()[order].cumsum() / total, radius[order]))


def illuminated_height_px(probe: NDArray[np.complexfloating], threshold: float = 1.0e-3) -> float:
    """Distance in y beyond which no pixel is illuminated by two exposures, sub-pixel shifts included.

    A sub-pixel shift makes the edges of a sharp beam ring, which raises pixels that are darker than the threshold
    above it. Rows are therefore counted from a fifth of the threshold on, and two pixels are added. The result is at
    most the window and a pixel.

    Parameters
    ----------
    probe : (N, N) or (modes, N, N) complex
        Illumination.
    threshold : float
        Intensity above which a pixel counts as illuminated, as a fraction of the peak.
    """
    intensity = np.sum(np.abs(as_modes(probe)) ** 2, axis=0)
    n = intensity.shape[0]
    rows = np.flatnonzero((intensity > 0.2 * threshold * intensity.max()).any(axis=1))
    return float(min(rows[-1] - rows[0] + 3, n + 1))
