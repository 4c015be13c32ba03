"""Scans in memory for `benchmarks/gpu_check.py`, which has neither files nor scikit-image."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ptycho.physics.detector import DetectorOptions, simulate_detector
from ptycho.physics.forward import predict_intensity
from ptycho.physics.probes import add_modes, scale_to, zone_plate_probe
from ptycho.physics.simulate import RasterOptions, raster_positions, simulate_scan
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.likelihood import Likelihood

DOSE = 1.0e4
SPACING_PX, JITTER_PX = 8.8, 1.0


@dataclass(frozen=True)
class Scan:
    """A simulated scan in memory."""

    counts: Counts
    probe: Any
    truth: Any

    def on_canvas(self, likelihood: Likelihood):
        """Return the truth on a likelihood's canvas."""
        (top, left), (height, width) = likelihood.origin_px, likelihood.shape
        return self.truth[top : top + height, left : left + width].astype(np.complex64)


def probe_of(n: int, modes: int = 1):
    """Return the default study's probe, scaled to patterns of n px, (modes, n, n)."""
    scale = n / 64
    shape = {"pupil_px": 13.0 * scale, "stop": 0.3, "defocus_px": 26.0 * scale}
    probe = zone_plate_probe(n, **shape, astigmatism_rad=0.6, coma_rad=0.4)
    return scale_to(add_modes(probe, modes, 0.1), DOSE)


def positions_of(columns: int, rows: int, n: int):
    """Lay out a jittered raster; return positions and the shape of the object."""
    scale = n / 64
    raster = RasterOptions(
        columns=columns, train_rows=1, test_rows=rows, spacing_px=SPACING_PX * scale, jitter_px=JITTER_PX * scale
    )
    x, y, shape = raster_positions(raster, n, n, np.random.default_rng(0))
    return x[columns:], y[columns:], shape


def dead_leaves(shape, rng: np.random.Generator):
    """Paint discs of random size, absorption and phase over each other; `ptycho.physics.samples` needs scikit-image."""
    obj, (rows, columns) = np.ones(shape, np.complex64), np.ogrid[: shape[0], : shape[1]]
    for _ in range(shape[0] * shape[1] // 60):
        radius = 3 / np.sqrt(rng.uniform(0.004, 1))
        y, x = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        box = tuple(slice(max(int(c - radius), 0), int(c + radius) + 2) for c in (y, x))
        inside = (rows[box[0]] - y) ** 2 + (columns[:, box[1]] - x) ** 2 < radius**2
        obj[box][inside] = rng.uniform(0.6, 1) * np.exp(1j * rng.uniform(0, 1.2))
    return obj


def scan_of(columns: int, rows: int, n: int = 64, modes: int = 1, *, masked: bool = False) -> Scan:
    """Simulate a scan of dead leaves."""
    x, y, shape = positions_of(columns, rows, n)
    small = tuple(min(size, 600) for size in shape)  # repeated in larger scans, whose simulation would take long
    wrapped = [(0, size - part) for size, part in zip(shape, small, strict=True)]
    obj = np.pad(dead_leaves(small, np.random.default_rng(20)), wrapped, mode="wrap")
    options = {"gap_px": 2, "dead_fraction": 0.01, "hot_pixels": 2, "background": 0.05, "flux_jitter": 0.1}
    defects = DetectorOptions(**options) if masked else DetectorOptions()
    detector, probe = simulate_detector(defects, n, len(x), np.random.default_rng(1)), probe_of(n, modes)
    frames = np.concatenate(list(simulate_scan(obj, probe, (x, y), np.random.default_rng(2), detector=detector)))
    np.square(frames, out=frames)
    if masked:
        frames[:, detector.detector.bad_pixels] = 0
    return Scan(Counts(frames.__getitem__, x, y, detector=detector.detector), probe, obj)


def repeated_scan(count: int, n: int) -> Scan:
    """Return a scan whose patterns repeat, since an evaluation's time does not depend on what they show."""
    columns = max(int(np.sqrt(count)), 1)
    x, y, shape = positions_of(columns, -(-count // columns), n)
    obj = np.exp(0.5j * np.random.default_rng(0).random(shape)).astype(np.complex64)
    frames = predict_intensity(obj, probe_of(n), x[:32], y[:32])
    frames = np.random.default_rng(1).poisson(frames).astype(np.float32)
    counts = Counts(lambda exposures: frames[exposures % len(frames)], x[:count], y[:count])
    return Scan(counts, probe_of(n), obj)
