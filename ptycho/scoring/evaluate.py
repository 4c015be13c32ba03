"""Scoring one condition: every method against truth and against exposures that no method saw, the same way."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import pandas as pd

from ptycho.align import AlignmentError, Gauge, align
from ptycho.frc import frc, ssnr_of_truth
from ptycho.grouping import FIT, HOLDOUT, STOP
from ptycho.metrics import METRICS, amplitude_images, data_range, heldout_deviance, phase_images, score
from ptycho.physics import blocks, illumination, predict_intensity
from ptycho.places import place_of
from ptycho.scan import Scan
from ptycho.stitch import load_object, place
from ptycho.views import View, scored_region

LOST = Gauge(**{field.name: np.nan for field in fields(Gauge)})
"""Of an estimate that has none."""
MARGIN_PX = 32
"""Around the scored rectangle, what alignment may shift in."""


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
    """Find the rectangle that is lit in every view of a scan, see `ptycho.views.scored_region`."""
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
    obj, weight, origin, made = load_object(path)
    return place(obj, origin, shape, fill=np.mean(np.abs(obj)[weight > 0.1 * np.median(weight)])), made


def light_on(region: Region, scan: Scan, view: View):
    """Illumination of a rectangle by the exposures of a view that methods may use, (h, w) float64 [photon/px]."""
    kept = view.of_role(FIT, STOP)
    shape = region.y1 - region.y0, region.x1 - region.x0
    return illumination(scan.probe, scan.xcoords[kept], scan.ycoords[kept], shape, (region.y0, region.x0))


def align_if_possible(estimate, truth, light, region, *, name):
    """Align as `ptycho.align.align` does; where that cannot be, say so, leave it in place and call the shift NaN."""
    try:
        return align(estimate, truth, light, region)
    except AlignmentError as error:
        print(f"{name}: not registered, scored where it is: {error}")
    try:
        aligned, gauge = align(estimate, truth, light, region, max_shift_px=0)
        return aligned, replace(gauge, shift_y_px=np.nan, shift_x_px=np.nan)
    except AlignmentError:  # nothing to fit a scale to
        return estimate[region], LOST


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
        The metrics of `ptycho.metrics`, `heldout_deviance` if exposures were set apart, what `align` removed, and
        `cpu_s`, what the reconstruction cost, if its file says so.
    aligned : (h, w) complex64
        The scored rectangle.
    """
    on_grid, made = load_on_grid(obj_path, scan.object.shape)
    apart = view.of_role(HOLDOUT)
    heldout = {"heldout_deviance": heldout_deviance(heldout_blocks(on_grid, scan, apart))} if len(apart) else {}
    wide = region.widened(MARGIN_PX, scan.object.shape)
    truth, inner = scan.object[wide.box], region.inside(wide)
    cost = {"cpu_s": made["cpu_s"]} if "cpu_s" in made else {}
    if np.isfinite(on_grid[wide.box]).all():
        aligned, gauge = align_if_possible(on_grid[wide.box], truth, light_on(wide, scan, view), inner, name=obj_path)
        values = score(aligned, truth[inner])
    else:
        print(f"{obj_path}: has values that are not finite, all its scores are NaN")
        aligned, gauge, values = on_grid[wide.box][inner], LOST, dict.fromkeys(METRICS, np.nan)
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


def tidy(metrics: pd.DataFrame, **condition) -> pd.DataFrame:
    """Say of which condition the numbers are.

    Returns
    -------
    DataFrame
        dose, view, split, method, object (where there are several), seed, metric, value.
    """
    columns = ["dose", "view", "split", "method", *(["object"] if "object" in condition else []), "seed"]
    return metrics.assign(**condition)[[*columns, "metric", "value"]]


def condition_of(path) -> dict:
    """Tell dose, view, seed and, where there are several, object from the path of a file under one condition.

    Raises
    ------
    ValueError
        If it is under none.
    """
    place = place_of(path)
    if not {"dose", "view", "seed"} <= set(place):
        raise ValueError(f"{path}: wanted a file under [object_*/]dose_*/*/seed_*/")
    condition = {name: place[name] for name in ("object", "dose", "view", "seed") if name in place}
    return {**condition, "dose": int(place["dose"]), "seed": int(place["seed"])}


ALLOWED = {
    "shift_px": (0.1, "shifted by {:.2f} px"),
    "ramp_rad_per_px": (0.005, "tilted by a phase ramp of {:.4f} rad/px"),
}
"""What a known probe leaves no room for, and how much of it is no warning."""


def warnings_of(metrics: pd.DataFrame) -> list[str]:
    """Say which methods were shifted or tilted by more than a known probe allows, no gauge then, or not registered.

    A shift is a bug; a ramp is slow phase that a method has not recovered.

    Parameters
    ----------
    metrics : DataFrame
        As `tidy` returns it, of any number of conditions; repetitions of one share a line.
    """
    several, found, lost = metrics["split"].nunique() > 1, [], []
    for metric, (limit, words) in ALLOWED.items():
        chosen = metrics[metrics["metric"] == metric]
        for (split, view, dose, method), rows in chosen.groupby(["split", "view", "dose", "method"], sort=False):
            where = f"{method}, {view} {dose}" + (f", {split} split" if several else "")
            far, nowhere = rows["value"] > limit, rows["value"].isna()
            if far.any():
                much = words.format(rows["value"].max()) + " at most" * (len(rows) > 1)
                found.append(f"{where}: {much}{_share(far)}; a known probe allows {limit} {words.split()[-1]}")
            if nowhere.any() and metric == "shift_px":
                lost.append(f"{where}: could not be registered{_share(nowhere)}: the log of compare says why")
    return found + lost


def _share(which) -> str:
    return f", {which.sum()} of {len(which)}" if len(which) > 1 else ""


def training_cost(benchmarks) -> pd.DataFrame:
    """What trainings cost, from Snakemake's own measurements: dose, view, (object,) seed, method, cpu_s, peak_mb.

    Parameters
    ----------
    benchmarks : iterable of path
        …/dose_{dose}/{view}/seed_{seed}/{method}.tsv
    """
    rows = []
    for path in map(Path, benchmarks):
        numbers = pd.read_csv(path, sep="\t", na_values="-").iloc[0]
        cost = {"cpu_s": numbers["cpu_time"], "peak_mb": numbers["max_rss"]}
        rows.append({**condition_of(path), "method": path.stem, **cost})
    places = [name for name in ("object", "seed") if any(name in row for row in rows)]
    return pd.DataFrame(rows, columns=["dose", "view", *places, "method", "cpu_s", "peak_mb"])
