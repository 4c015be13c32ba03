"""Small scans as people have them, right and wrong ones: what `ptycho check` should find in them."""

from dataclasses import dataclass, field, replace

import numpy as np

from ptycho.data.scan import ScanWriter, open_scan
from ptycho.inspection.statistics import frame_statistics
from ptycho.physics.forward import diffract, inverse_diffract, predict_intensity
from ptycho.physics.probes import scale_to, zone_plate_probe
from ptycho.physics.samples import simulate_object

N, ROWS, COLUMNS, SPACING_PX, DOSE = 32, 13, 8, 4.0, 60_000


@dataclass(frozen=True)
class RawScan:
    """Counts and positions, probe, and what else a file may have."""

    counts: np.ndarray
    xcoords: np.ndarray
    ycoords: np.ndarray
    probe: np.ndarray
    object: np.ndarray
    detector: dict = field(default_factory=dict)

    def changed(self, **changes):
        return replace(self, **changes)


def beam(n=N):
    """An annular aperture out of focus, astigmatic along no axis, with coma along both: no turn leaves it as it is."""
    wave = diffract(
        zone_plate_probe(n, pupil_px=0.22 * n, stop=0.3, defocus_px=0.4 * n, astigmatism_rad=0.7, coma_rad=0.5)
    )
    v, u = (np.indices((n, n)) - n // 2) / (0.22 * n)
    return inverse_diffract(wave * np.exp(1j * (1.2 * u * v + 0.7 * v * (u**2 + v**2))))


def right(n=N, rows=ROWS, columns=COLUMNS, dose=DOSE, *, seed=3, kind="dead_leaves"):
    """A scan without a fault."""
    rng = np.random.default_rng(seed)
    row, column = np.divmod(np.arange(rows * columns), columns)
    y, x = (n / 2 + 3 + SPACING_PX * axis + rng.uniform(-1, 1, rows * columns) for axis in (row, column))
    shape = int(y.max()) + n // 2 + 4, int(x.max()) + n // 2 + 4
    obj = simulate_object(kind, shape, np.random.default_rng(seed + 1))
    probe = scale_to(beam(n), dose)
    return RawScan(rng.poisson(predict_intensity(obj, probe, x, y)), x, y, probe, obj)


def write(path, raw):
    """Write a scan of the contract as `ptycho convert` would: a flat object that holds every window."""
    n = raw.counts.shape[-1]
    x, y = (axis - np.floor(np.nanmin(axis)) + n for axis in (raw.xcoords, raw.ycoords))
    shape = int(np.nanmax(y)) + n, int(np.nanmax(x)) + n
    fields = {
        "xcoords": x.astype(np.float64),
        "ycoords": y.astype(np.float64),
        "probeGuess": np.asarray(raw.probe, np.complex64),
        "objectGuess": np.ones(shape, np.complex64),
        "metadata": {"dose": DOSE, "source": "a test"},
    }
    with ScanWriter(path, len(raw.counts), n, **fields, **raw.detector) as writer:
        writer.write(np.sqrt(raw.counts).astype(np.float32))
    return open_scan(path)


def faults():
    """Name -> scan with one fault."""
    good = right()
    counts, x, y = good.counts, good.xcoords, good.ycoords
    rng = np.random.default_rng(5)
    gaps, hot, dark, flux, dead = (counts.copy() for _ in range(5))
    gaps[:, 14:16], hot[:, 5, 7], dark[40:47] = 2**32 - 1, 10_000_000, 0
    flux[40:64] = rng.binomial(flux[40:64], 0.7)
    bad = rng.random((N, N)) < 0.03
    bad[14:16] = True
    dead[:, bad] = 0
    broken = np.sqrt(counts.astype(float)) ** 2
    broken[[3, 17]] = np.nan
    number = np.arange(len(x))
    return {
        "right": good,
        "mirrored": good.changed(counts=counts[:, :, ::-1]),
        "upside_down": good.changed(counts=counts[:, ::-1]),
        "transposed": good.changed(counts=counts.transpose(0, 2, 1)),
        "swapped_xy": good.changed(xcoords=y, ycoords=x),
        "negated_x": good.changed(xcoords=-x),
        "corner": good.changed(counts=np.fft.ifftshift(counts, axes=(1, 2))),
        "gaps": good.changed(counts=gaps),
        "hot_pixel": good.changed(counts=hot),
        "dead_pixels": good.changed(counts=dead),
        "masked": good.changed(counts=np.where(bad, 7_000_000, counts), detector={"bad_pixels": bad}),
        "beam_dump": good.changed(counts=dark),
        "flux_70_percent": good.changed(counts=flux),
        "saturated": good.changed(counts=np.minimum(counts * 300, 65535)),
        "clipped": good.changed(counts=np.minimum(counts, 150)),
        "adu": good.changed(counts=counts * 37.5),
        "normalized": good.changed(counts=counts / counts.max()),
        "amplitudes": good.changed(counts=counts.astype(float) ** 2),
        "nan_frames": good.changed(counts=broken),
        "runaway": good.changed(xcoords=np.where(number == 5, 3000, x)),
        "island": good.changed(xcoords=x + np.where(number % COLUMNS >= 6, 60, 0)),
        "nanometers": good.changed(xcoords=20 * x, ycoords=20 * y),
        "doubled": good.changed(xcoords=np.repeat(x[::2], 2), ycoords=np.repeat(y[::2], 2)),
    }


def statistics_of(scan):
    """Statistics of a scan, and its valid pixels."""
    valid = np.ones((N, N), bool) if scan.detector.valid is None else scan.detector.valid
    return frame_statistics(scan, valid), valid


def errors(findings):
    """Lines of the errors among findings."""
    return [finding.line for finding in findings if finding.level == "error"]


def points_of(scan):
    """Positions (y, x) of a scan."""
    return np.stack([scan.ycoords, scan.xcoords], axis=1)
