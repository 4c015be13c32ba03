"""What lies between two FFTs of the likelihood, and the prior, as loops that Numba compiles: read and written once.

`ptycho.reconstruction.cpu_passes` calls them for arrays in single precision; sums are taken in rows of single, and
otherwise in double precision. Bits depend neither on how many exposures are computed at once nor on threads. Numba
keeps what it has compiled beside this file, or in the user's cache.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

ONE, SMALLEST = np.float32(1), np.finfo(np.float32).tiny
POLYNOMIAL = tuple(
    np.float32(factor)
    for factor in (
        7.0376836292e-2,
        -1.1514610310e-1,
        1.1676998740e-1,
        -1.2420140846e-1,
        1.4249322787e-1,
        -1.6668057665e-1,
        2.0000714765e-1,
        -2.4999993993e-1,
        3.3333331174e-1,
    )
)
"""(log(1 + z) - z + z²/2) / z³ for 1/√2 ≤ 1 + z < √2, highest power first (S. Moshier, Cephes Mathematical Library,
`logf`)."""
LOG_2 = np.float32(0.693359375), np.float32(-2.12194440e-4)
"""The logarithm of 2, first the part that its products with exponents have without rounding (Cephes)."""


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a function at its first call, without Python's lock; sums may be taken in another order."""
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz", "reassoc"}}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # nowhere to keep it
        return numba.njit(**options)(function)


@intrinsic
def exponent(context: Any, x: Any) -> Any:
    """Return e as float32, for a float32 x = 2^e m with 1/√2 ≤ m < √2."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.sitofp(_exponent_bits(builder, arguments[0])[1], ir.FloatType())

    return types.float32(types.float32), code


@intrinsic
def mantissa(context: Any, x: Any) -> Any:
    """Return m, see `exponent`."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits, power = _exponent_bits(builder, arguments[0])
        shifted = builder.shl(power, ir.Constant(ir.IntType(32), 23))
        return builder.bitcast(builder.sub(bits, shifted), ir.FloatType())

    return types.float32(types.float32), code


def _exponent_bits(builder: Any, x: Any) -> tuple[Any, Any]:
    """Build the bits of a float32 and its exponent as int32; Numba's own integers would be 64 bits wide."""
    word = ir.IntType(32)
    bits, half = builder.bitcast(x, word), ir.Constant(word, int(np.sqrt(np.float32(0.5)).view(np.int32)))
    return bits, builder.ashr(builder.sub(bits, half), ir.Constant(word, 23))


@compiled
def logarithm(x: np.float32) -> np.float32:
    """Return the natural logarithm of a positive normal number, in operations that processors do on vectors."""
    z, power = mantissa(x) - ONE, exponent(x)
    square, polynomial = z * z, POLYNOMIAL[0]
    for factor in POLYNOMIAL[1:]:
        polynomial = polynomial * z + factor
    rest = polynomial * z * square + power * LOG_2[1] - np.float32(0.5) * square
    return z + rest + power * LOG_2[0]


@compiled
def illuminate(
    obj: NDArray[np.complex64],
    probes: NDArray[np.complex64],
    top: NDArray[np.int32],
    left: NDArray[np.int32],
    waves: NDArray[np.complex64],
) -> None:
    """Write the exit waves of probes (m, modes, N, N) at windows of an object (H, W) to an array like the probes."""
    count, modes, n, _ = probes.shape
    for exposure in range(count):
        first, last = left[exposure], left[exposure] + n
        for mode in range(modes):
            for row in range(n):
                _multiply(waves[exposure, mode, row], obj[top[exposure] + row, first:last], probes[exposure, mode, row])


@compiled
def _multiply(wave: NDArray[np.complex64], obj: NDArray[np.complex64], probe: NDArray[np.complex64]) -> None:
    for i in range(wave.size):
        o, p = obj[i], probe[i]
        wave[i] = complex(o.real * p.real - o.imag * p.imag, o.imag * p.real + o.real * p.imag)


@compiled
def compare(
    waves: NDArray[np.float32],
    frames: NDArray[np.float32],
    planes: NDArray[np.float32],
    normalization: np.float32,
    values: NDArray[np.float64],
    slopes: NDArray[np.float64],
) -> None:
    """Turn waves on the detector into those to take back, and write half the deviance of each exposure.

    Parameters
    ----------
    waves : (m, modes, N² 2) float32
        Real and imaginary parts in turns, from an FFT that was not normalized; times 2 (1 - y / I) `normalization`
        afterwards.
    frames : (m, N²) float32
        Counts y [photon].
    planes : (2, N²) float32
        1 in valid and 0 in bad pixels; what is added to |waves|² `normalization` for the mean counts I [photon].
    normalization : float32
        Of the waves' squares.
    values : (m,) float64
        Half the deviance.
    slopes : (N²,) or (0,) float64
        To which 1 - y / I is added, if there is room.
    """
    count, modes, _ = waves.shape
    n_pixels, row = frames.shape[1], 64
    photons, terms = np.empty(n_pixels, np.float32), np.empty(n_pixels, np.float32)
    for exposure in range(count):
        _count_photons(waves[exposure, 0], photons)
        for mode in range(1, modes):
            _count_more_photons(waves[exposure, mode], photons)
        _half_deviance(photons, frames[exposure], planes[0], planes[1], normalization, terms)
        values[exposure] = 0.0
        for first in range(0, n_pixels, row):
            values[exposure] += _sum(terms[first : first + row])
        if slopes.size:
            _add(slopes, photons)
        for mode in range(modes):
            _weigh(waves[exposure, mode], photons, np.float32(2) * normalization)


@compiled
def _count_photons(wave: NDArray[np.float32], photons: NDArray[np.float32]) -> None:
    for i in range(photons.size):
        photons[i] = wave[2 * i] * wave[2 * i] + wave[2 * i + 1] * wave[2 * i + 1]


@compiled
def _count_more_photons(wave: NDArray[np.float32], photons: NDArray[np.float32]) -> None:
    for i in range(photons.size):
        photons[i] += wave[2 * i] * wave[2 * i] + wave[2 * i + 1] * wave[2 * i + 1]


@compiled
def _half_deviance(
    photons: NDArray[np.float32],
    frame: NDArray[np.float32],
    valid: NDArray[np.float32],
    background: NDArray[np.float32],
    normalization: np.float32,
    terms: NDArray[np.float32],
) -> None:
    """Write I - y - y log(I / y) to the terms and 1 - y / I in place of the photons, 0 in bad pixels."""
    for i in range(photons.size):
        mean = photons[i] * normalization + background[i]
        ratio = frame[i] / mean if valid[i] > 0 else ONE
        slope = ONE - ratio
        terms[i] = mean * (slope + ratio * logarithm(max(ratio, SMALLEST)))
        photons[i] = slope


@compiled
def _sum(terms: NDArray[np.float32]) -> np.float32:
    total = np.float32(0)
    for i in range(terms.size):
        total += terms[i]
    return total


@compiled
def _add(slopes: NDArray[np.float64], more: NDArray[np.float32]) -> None:
    for i in range(slopes.size):
        slopes[i] += more[i]


@compiled
def _weigh(wave: NDArray[np.float32], slopes: NDArray[np.float32], factor: np.float32) -> None:
    for i in range(slopes.size):
        weight = slopes[i] * factor
        wave[2 * i] *= weight
        wave[2 * i + 1] *= weight


@compiled
def collect(
    canvas: NDArray[np.complex64],
    waves: NDArray[np.complex64],
    probes: NDArray[np.complex64],
    top: NDArray[np.int32],
    left: NDArray[np.int32],
) -> None:
    """Add waves (m, modes, N, N), times the conjugate of probes, to windows of a canvas (H, W)."""
    count, modes, n, _ = probes.shape
    for exposure in range(count):
        first, last = left[exposure], left[exposure] + n
        for mode in range(modes):
            for row in range(n):
                target = canvas[top[exposure] + row, first:last]
                _add_conjugate(target, waves[exposure, mode, row], probes[exposure, mode, row])


@compiled
def _add_conjugate(target: NDArray[np.complex64], wave: NDArray[np.complex64], probe: NDArray[np.complex64]) -> None:
    for i in range(target.size):
        w, p = wave[i], probe[i]
        target[i] += complex(w.real * p.real + w.imag * p.imag, w.imag * p.real - w.real * p.imag)


@compiled
def total_variation(obj: NDArray[np.complex64], smoothing: np.float32, gradient: NDArray[np.complex64]) -> float:
    """Return the smoothed total variation of an object (H, W), and write its gradient."""
    height, width = obj.shape
    square, total = smoothing * smoothing, 0.0
    down, right = np.zeros(width, np.complex64), np.zeros(width + 1, np.complex64)
    terms, above = np.empty(width, np.float32), np.zeros(width, np.complex64)
    for row in range(height):
        _difference(obj[row, 1:], obj[row, :-1], right[1:width])
        if row + 1 < height:
            _difference(obj[row + 1], obj[row], down)
        else:
            down[:] = 0
        _normalize(down, right[1:], square, smoothing, terms)
        total += _sum(terms)
        _add_slopes(down, above, right, gradient[row])
        above[:] = down
    return total


@compiled
def _difference(second: NDArray[np.complex64], first: NDArray[np.complex64], change: NDArray[np.complex64]) -> None:
    for i in range(change.size):
        change[i] = second[i] - first[i]


@compiled
def _normalize(
    down: NDArray[np.complex64],
    right: NDArray[np.complex64],
    square: np.float32,
    smoothing: np.float32,
    terms: NDArray[np.float32],
) -> None:
    for i in range(terms.size):
        d, r = down[i], right[i]
        length = np.sqrt(d.real * d.real + d.imag * d.imag + r.real * r.real + r.imag * r.imag + square)
        scale = ONE / length
        terms[i] = length - smoothing
        down[i] = complex(d.real * scale, d.imag * scale)
        right[i] = complex(r.real * scale, r.imag * scale)


@compiled
def _add_slopes(
    down: NDArray[np.complex64],
    above: NDArray[np.complex64],
    right: NDArray[np.complex64],
    gradient: NDArray[np.complex64],
) -> None:
    for i in range(gradient.size):
        gradient[i] = above[i] - down[i] + right[i] - right[i + 1]
