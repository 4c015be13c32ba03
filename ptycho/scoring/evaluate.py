"""Scoring one condition: every method against truth and against exposures that no method saw, the same way."""

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import pandas as pd

from ptycho.data.grouping import FIT, HOLDOUT, VALIDATION
from ptycho.data.object_files import load_reconstruction, paste
from ptycho.data.scan import Scan
from ptycho.data.views import View, scored_region
from ptycho.physics.forward import blocks, illumination, predict_intensity
from ptycho.physics.noise import heldout_deviance
from ptycho.scoring.frc import frc, ssnr_of_truth
from ptycho.scoring.metrics import METRICS, amplitude_images, data_range, phase_images, score
from ptycho.scoring.registration import AlignmentError, Gauge, align

NO_GAUGE = Gauge(**{field.name: np.nan for field in fields(Gauge)})
"""Of an estimate that cannot be registered."""
MARGIN_PX = 32
"""Around the scored rectangle, what alignment may shift in."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Region:
    """The scored rectangle, half-open, in pixels of the object plane."""

    y0: int
    y1: int
    x0: int
    x1: int

    @classmethod
    def load(cls, path) -> "Region":
        """Read it from its JSON."""
        numbers = json.loads(Path(path).read_text())
        return cls(*(numbers[key] for key in ("y0", "y1", "x0", "x1")))

    def widened(self, margin: int, shape) -> "Region":
        """Return it with a margin, as far as the object reaches."""
        return Region(
            max(self.y0 - margin, 0),
            min(self.y1 + margin, shape[0]),
            max(self.x0 - margin, 0),
            min(self.x1 + margin, shape[1]),
        )

    @property
    def box(self):
        """Slices of this rectangle in the object plane."""
        return (slice(self.y0, self.y1), slice(self.x0, self.x1))

    def inside(self, outer: "Region"):
        """Slices of this rectangle in an array that covers `outer`."""
        return (slice(self.y0 - outer.y0, self.y1 - outer.y0), slice(self.x0 - outer.x0, self.x1 - outer.x0))


def shared_region(scan: Scan, views: list[View]) -> Region:
    """Find the rectangle that is lit in every view of a scan, see `ptycho.data.views.scored_region`."""
    shape = scan.object.shape
    kept = [view.exposures for view in views]
    lights = (illumination(scan.probe, scan.xcoords[part], scan.ycoords[part], shape) for part in kept)
    return Region(*scored_region(lights))


def heldout_blocks(obj, scan: Scan, exposures, block_size: int = 64) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield counts and predicted counts of exposures, (b, N, N) each, block by block; `obj` is on the truth's grid."""
    for block in blocks(len(exposures), block_size):
        chosen = exposures[block]
        counts = np.square(scan.diffraction[chosen], dtype=np.float64)
        yield counts, predict_intensity(obj, scan.probe, scan.xcoords[chosen], scan.ycoords[chosen])


def load_on_grid(path, shape):
    """Read a reconstruction and put it on the object plane (H, W); with what its file says about how it was made."""
    reconstruction, metadata = load_reconstruction(path)
    obj, illumination = reconstruction.object, reconstruction.illumination
    fill = np.mean(np.abs(obj)[illumination > 0.1 * np.median(illumination)])
    return paste(obj, reconstruction.origin_px, shape, fill=fill), metadata


def illumination_on(region: Region, scan: Scan, view: View):
    """Illumination of a rectangle by the exposures of a view that methods may use, (h, w) float64 [photon/px]."""
    kept = view.of_role(FIT, VALIDATION)
    shape = region.y1 - region.y0, region.x1 - region.x0
    return illumination(scan.probe, scan.xcoords[kept], scan.ycoords[kept], shape, (region.y0, region.x0))


def align_if_possible(estimate, truth, light, region, *, name):
    """Align as `align` does; where that cannot be, say so, leave it in paste and call the shift NaN."""
    try:
        return align(estimate, truth, light, region)
    except AlignmentError as error:
        _logger.warning("%s: not registered, scored where it is: %s", name, error)
    try:
        aligned, gauge = align(estimate, truth, light, region, max_shift_px=0)
        return aligned, replace(gauge, shift_y_px=np.nan, shift_x_px=np.nan)
    except AlignmentError:  # nothing to fit a scale to
        return estimate[region], NO_GAUGE


def score_method(obj_path, scan: Scan, view: View, region: Region) -> tuple[dict[str, float], np.ndarray]:
    """Score one reconstruction.

    Parameters
    ----------
    obj_path : Path
        Object file of the method.
    region : Region
        What is scored.

    Returns
    -------
    values : dict
        The metrics of `ptycho.scoring.metrics`, `heldout_deviance` if exposures were set apart, what `align` removed,
        and `cpu_s`, what the reconstruction cost, if its file says so.
    aligned : (h, w) complex64
        The scored rectangle.
    """
    on_grid, metadata = load_on_grid(obj_path, scan.object.shape)
    apart = view.of_role(HOLDOUT)
    heldout = {"heldout_deviance": heldout_deviance(heldout_blocks(on_grid, scan, apart))} if len(apart) else {}
    wide = region.widened(MARGIN_PX, scan.object.shape)
    truth, inner = scan.object[wide.box], region.inside(wide)
    cost = {"cpu_s": metadata["cpu_s"]} if "cpu_s" in metadata else {}
    if np.isfinite(on_grid[wide.box]).all():
        aligned, gauge = align_if_possible(
            on_grid[wide.box], truth, illumination_on(wide, scan, view), inner, name=obj_path
        )
        values = score(aligned, truth[inner])
    else:
        _logger.warning("%s: has values that are not finite, all its scores are NaN", obj_path)
        aligned, gauge, values = on_grid[wide.box][inner], NO_GAUGE, dict.fromkeys(METRICS, np.nan)
    removed = {"shift_px": gauge.shift_px, "ramp_rad_per_px": gauge.ramp_rad_per_px, **asdict(gauge)}
    return {**values, **heldout, **removed, **cost}, aligned.astype(np.complex64)


def compare(
    objects: dict[str, Path], scan: Scan, view: View, region: Region
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Score all methods of one condition.

    Returns
    -------
    metrics : DataFrame
        method, metric, value.
    arrays : dict
        "truth" and every method: the aligned, scored rectangles, complex64.
    """
    arrays = {"truth": scan.object[region.y0 : region.y1, region.x0 : region.x1]}
    rows = []
    for method, path in objects.items():
        values, arrays[method] = score_method(path, scan, view, region)
        rows += [{"method": method, "metric": name, "value": float(value)} for name, value in values.items()]
    return pd.DataFrame(rows), arrays


def frc_table(arrays: dict[str, np.ndarray]) -> pd.DataFrame:
    """Fourier ring correlation with the truth, ring by ring.

    Parameters
    ----------
    arrays : dict of (h, w) complex
        "truth", and aligned objects by method, as `compare` returns them.

    Returns
    -------
    DataFrame
        method, part ("amplitude" or "phase"), frequency (of Nyquist), frc, ssnr; NaN where the truth is flat.
    """
    tables = []
    for method in (name for name in arrays if name != "truth"):
        for part, images in {"amplitude": amplitude_images, "phase": phase_images}.items():
            image, truth = images(arrays[method], arrays["truth"])
            frequency, correlation = frc(image, truth)
            if not data_range(truth):
                correlation = np.full_like(correlation, np.nan)
            columns = {"frequency": frequency, "frc": correlation, "ssnr": ssnr_of_truth(correlation)}
            tables.append(pd.DataFrame({"method": method, "part": part, **columns}))
    return pd.concat(tables, ignore_index=True)
