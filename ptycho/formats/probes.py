"""The probe of a converted scan: read from a file or made of the mean pattern, resampled and scaled with the frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptycho.formats.frames import FrameTransform
from ptycho.formats.inputs import Inputs, KeyedFile
from ptycho.physics.forward import as_modes, diffract, inverse_diffract, predict_intensity
from ptycho.physics.noise import poisson_deviance
from ptycho.workflow.files import ContractError, StrPath

PROBE_KEYS = ("probeGuess", "probe", "entry_1/instrument_1/source_1/illumination")
"""Keys under which a probe is found, in this order; then PtyPy's."""
HOT, HOT_SHARE = 10.0, 1e-3
"""A pixel of the mean pattern that no beam explains: its counts in units of its third-brightest neighbor's, and as a
fraction of all. A beam that is no wider than half its window has neighbors of at least (2/π)² beside its peaks."""
CLEARLY_BETTER, FITS = 0.98, 0.5
"""Largest deviance with which another displacement is preferred: of that of the first, and of an object of ones."""


def check_probe(name: str, key: str, probe: NDArray[Any]) -> NDArray[np.complex128]:
    """Return a probe as (modes, H, W), its first set of modes if there are several.

    Raises
    ------
    ContractError
        If it has another shape, is zero everywhere, or holds values that are not finite, or too large.
    """
    if probe.dtype.kind != "c" and probe.ndim == 3 and 2 in (probe.shape[0], probe.shape[-1]):
        raise ContractError(
            f"{name}: '{key}' is {probe.dtype} with shape {probe.shape}, real and imaginary part? wanted complex values"
        )
    if probe.ndim > 3:
        probe = probe.reshape(-1, *probe.shape[-3:])[0]
    if probe.ndim < 2 or probe.dtype.kind not in "cfiu" or not probe.size:
        raise ContractError(f"{name}: '{key}' is {probe.dtype} with shape {probe.shape}; wanted complex (modes, N, N)")
    n_invalid = int((~np.isfinite(probe)).sum())
    with np.errstate(over="ignore", invalid="ignore"):
        power = float(np.sum(np.abs(probe.astype(np.complex128)) ** 2))
    if not 0 < power < np.inf:
        problem = f"holds {n_invalid} values that are not finite" if n_invalid else f"has Σ|P|² = {power:g}"
        raise ContractError(f"{name}: '{key}' {problem}; --probe FILE gives another, --estimate-probe 0 makes one")
    return as_modes(probe).astype(np.complex128)


def find_probe(file: KeyedFile) -> tuple[str, NDArray[Any]] | None:
    """Return the key and the array of the probe of a file, None if it has none."""
    key = next((key for key in PROBE_KEYS if key in file), None)
    if key is None and "content/probe" in file:
        key = next((f"content/probe/{name}/data" for name in file.names("content/probe")), None)
    return None if key is None else (key, file.array(key))


def read_probe_file(path: StrPath, follow_links: bool = False) -> NDArray[np.complex128]:
    """Read a probe, (modes, H, W), from a `.npy`, or from any NPZ or HDF5 file that has one.

    Parameters
    ----------
    path : path
    follow_links : bool
        Read files in other folders that it links to.

    Raises
    ------
    ContractError
        If the file has none, or it is invalid.
    """
    path = Path(path)
    if path.suffix == ".npy":
        from ptycho.formats.detector_files import read_npy

        return check_probe(str(path), "the array", read_npy(path))
    with Inputs([path], follow_links) as inputs:
        probe = find_probe(inputs.keyed[0]) if inputs.keyed else None
    if probe is None:
        raise ContractError(f"{path}: no probe in it; wanted one of the keys {', '.join(PROBE_KEYS)}")
    return check_probe(str(path), *probe)


def without_hot_pixels(mean_counts: NDArray[np.floating], steps: list[str]) -> NDArray[np.floating]:
    """Return a mean pattern, (N, N), with hot pixels replaced by the median of their neighbors; say which they are."""
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(mean_counts, 1), (3, 3)).reshape(*mean_counts.shape, 9)
    neighbors = np.sort(np.delete(windows, 4, axis=-1), axis=-1)
    hot = (mean_counts > HOT * neighbors[..., -3]) & (mean_counts > HOT_SHARE * mean_counts.sum())
    if hot.any():
        named = ", ".join(str(pixel) for pixel in np.argwhere(hot)[:3].tolist()) + (" …" if hot.sum() > 3 else "")
        steps.append(f"mean pattern: {hot.sum()} px far above all around, {named}, left out of the probe: hot?")
    return np.where(hot, np.median(neighbors, axis=-1), mean_counts)


def estimate_probe(
    mean_counts: NDArray[np.floating], defocus_m: float, pixel_m: float | None, wavelength_m: float | None
) -> NDArray[np.complexfloating]:
    """Make a probe whose pattern is the mean pattern: the root of it, with the phase of a defocus, transformed back.

    Parameters
    ----------
    mean_counts : (N, N) float
        Mean counts of the converted frames, 0 in bad pixels.
    defocus_m : float
        Distance from the focus to the sample [m]; needs `pixel_m` and `wavelength_m` unless it is 0.
    pixel_m, wavelength_m : float or None
        Object pixel and wavelength [m].

    Returns
    -------
    (1, N, N) complex
        P = F⁻¹[√I exp(-iπ λ z q²)], the paraxial propagation of the focus by z (Goodman, Introduction to Fourier
        Optics, 2005, §4.2).

    Raises
    ------
    ValueError
        If a length is missing.
    """
    phase = np.zeros(mean_counts.shape)
    if defocus_m:
        if pixel_m is None or wavelength_m is None:
            raise ValueError(
                "--estimate-probe with a defocus needs --energy or --wavelength, --distance and --detector-pixel"
            )
        n = mean_counts.shape[-1]
        q = (np.arange(n) - n // 2) / (n * pixel_m)
        phase = -np.pi * wavelength_m * defocus_m * (q[:, None] ** 2 + q**2)
    return inverse_diffract(np.sqrt(mean_counts) * np.exp(1j * phase))[None]


def resample_probe(
    modes: NDArray[np.complexfloating], transform: FrameTransform, steps: list[str]
) -> NDArray[np.complexfloating]:
    """Return the probe for converted frames.

    It is cropped or padded as they are, in Fourier space; where they are binned, its window becomes smaller. A probe
    in the size of the converted frames stays as it is.

    Parameters
    ----------
    modes : (modes, h, w) complex
        Probe in the size of the frames in the file, or in that of the converted ones.
    transform : FrameTransform
        What is done to the frames.
    steps : list of str
        What is done is appended.

    Raises
    ------
    ValueError
        If it has another size.
    """
    n, shape = transform.n_pixels, transform.oriented_shape
    if modes.shape[1:] == (n, n) and (modes.shape[1:] != shape or transform.n_detector == n):
        return modes
    if modes.shape[1:] != shape:
        sizes = dict.fromkeys((f"{shape[0]} × {shape[1]}", f"{n} × {n}"))
        last = "" if modes.shape[:2] != shape else f"; modes belong first: (modes, {shape[0]}, {shape[1]})"
        raise ValueError(
            f"the probe has {modes.shape[1]} × {modes.shape[2]} px; wanted {' or '.join(sizes)}"
            f"{last or '; --probe FILE gives another, --estimate-probe DEFOCUS makes one'}"
        )
    waves = diffract(modes)
    window = transform.n_detector
    resized = inverse_diffract(_resize(waves, window)) if waves.shape[1:] != (window, window) else modes
    kept = _resize(resized, n)
    before, after = (float(np.sum(np.abs(part) ** 2)) for part in (resized, kept))
    steps.append(
        f"probe: resampled from {shape[0]} × {shape[1]} to {n} × {n} px, {1 - after / before:.2%} of it outside"
    )
    return kept


def _resize(arrays: NDArray[Any], n: int) -> NDArray[Any]:
    """Crop or pad (…, H, W) arrays to n × n around [H // 2, W // 2]."""
    for axis in (-2, -1):
        size = arrays.shape[axis]
        if n <= size:
            start = size // 2 - n // 2
            arrays = np.take(arrays, range(start, start + n), axis)
        else:
            before = n // 2 - size // 2
            widths = [(0, 0)] * arrays.ndim
            widths[axis] = (before, n - size - before)
            arrays = np.pad(arrays, widths)
    return arrays


@dataclass(frozen=True)
class Sample:
    """Some exposures of a converted scan."""

    positions: NDArray[np.float64]
    """(m, 2) patch centers, [x, y] [px]."""
    counts: NDArray[np.floating]
    """(m, N, N) what they have counted, without background, divided by their flux."""
    valid: NDArray[np.bool_]
    """(N, N), True in pixels that count."""

    def predicted(self, modes: NDArray[np.complexfloating], obj: NDArray[Any], offset_px: float = 0.0) -> Any:
        """Return what a probe and an object predict on valid pixels, (m, V), with displaced windows."""
        x, y = (self.positions + offset_px).T
        return predict_intensity(obj, modes, x, y)[:, self.valid]

    def deviance(self, modes: NDArray[np.complexfloating], obj: NDArray[Any], offset_px: float = 0.0) -> float:
        """Poisson deviance per valid pixel; infinite if a window leaves the object."""
        try:
            predicted = self.predicted(modes, obj, offset_px)
        except ValueError:
            return np.inf
        return poisson_deviance(np.maximum(self.counts[:, self.valid], 0), predicted)


def scale_probe(modes: NDArray[np.complexfloating], obj: NDArray[Any], sample: Sample) -> NDArray[np.complex64]:
    """Scale a probe, (modes, N, N) in any unit, so that it predicts the photons of some exposures on valid pixels.

    Raises
    ------
    ValueError
        If a window leaves the object, (H, W), or the exposures have no photons.
    """
    predicted = sample.predicted(modes, obj).sum()
    measured = np.asarray(sample.counts, np.float64)[:, sample.valid].sum()
    if measured <= 0 or predicted <= 0:
        raise ValueError("no photons on the valid pixels of the frames that the probe is scaled to")
    return (modes * np.sqrt(measured / predicted)).astype(np.complex64)


def window_offset(
    modes: NDArray[np.complexfloating],
    obj: NDArray[Any],
    sample: Sample,
    offsets_px: Sequence[float],
    steps: list[str],
) -> float:
    """Return by how much windows are displaced against an object along both axes, by the misfit of some exposures.

    Parameters
    ----------
    modes : (modes, N, N) complex
        Scaled probe.
    obj : (H, W) complex
        Object.
    sample : Sample
        The exposures.
    offsets_px : sequence of float
        Displacements to choose from [px]. The first is kept unless another one fits better, and as an object should:
        with a small part of the misfit of an object of ones.
    steps : list of str
        What was found is appended, with the Poisson deviances per pixel.
    """
    if len(offsets_px) < 2:
        return offsets_px[0]
    misfits = [sample.deviance(modes, obj, offset) for offset in offsets_px]
    flat = sample.deviance(modes, np.ones_like(obj))
    best = int(np.argmin(misfits))
    chosen = offsets_px[best if misfits[best] < min(CLEARLY_BETTER * misfits[0], FITS * flat) else 0]
    shown = ", ".join(f"{offset:g} px: {misfit:.3g}" for offset, misfit in zip(offsets_px, misfits, strict=True))
    steps.append(f"windows displaced by {chosen:g} px against the object; deviance at {shown}; without it {flat:.3g}")
    return chosen
