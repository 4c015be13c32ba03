"""What a detector costs: bad pixels, known and unknown, background and flux, in the scores of LSQML and TV-MAP.

Simulates the test split of the default study's scan at one dose with several detectors, from the same photon noise
where pixels are valid, and reconstructs the same exposures. "unknown": the frames hold what the detector does, with
zeros in gaps and dead pixels, but the scan does not say so. Prints JSON: scores of every method and detector, and their
differences from the scores without any defect. All are scored on the same rectangle, and the held-out deviance on the
exposures of the perfect scan.

    python benchmarks/detector.py
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from conditions import compact_batching, print_json, usable_exposures
from scans import study_probe

from ptycho.data.object_files import Reconstruction, save_reconstruction
from ptycho.data.scan import Scan, ScanWriter, open_scan
from ptycho.data.views import FIT, VALIDATION, View, make_view
from ptycho.physics.detector import PERFECT, DetectorOptions, simulate_detector
from ptycho.physics.samples import simulate_object
from ptycho.physics.simulate import RasterOptions, raster_positions, simulate_scan
from ptycho.reconstruction import lsqml, tv
from ptycho.reconstruction.counts import Counts
from ptycho.scoring.evaluate import score_method
from ptycho.scoring.region import shared_region
from ptycho.workflow import job
from ptycho.workflow.config import CONFIG, load_config

BAD = {"gap_px": 1, "dead_fraction": 0.02}
"""Gaps and dead pixels: 5 % of 64 × 64 px."""
DETECTORS: dict[str, tuple[dict[str, Any], bool]] = {
    "perfect": ({}, True),
    "bad pixels": (BAD, True),
    "bad pixels, unknown": (BAD, False),
    "background and flux": ({"background": 0.5, "flux_jitter": 0.2}, True),
    "background and flux, unknown": ({"background": 0.5, "flux_jitter": 0.2}, False),
}
"""Name -> options of the detector, and whether the scan says what it does."""
SCORES = ("ssim_amplitude", "ssim_phase", "error", "heldout_deviance", "cpu_s")


def make_scan(path: Path, config: dict[str, Any], options: argparse.Namespace, name: str, split: str = "test") -> Scan:
    """Simulate a split with a detector, as the study does."""
    source, (what, known) = config["source"], DETECTORS[name]
    rng_object, rng_scan, rng_detector = np.random.default_rng(source["seed"]).spawn(3)
    probe = study_probe(64, options.dose)
    raster = RasterOptions(**source["raster"])
    x, y, shape = raster_positions(raster, 64, 64, rng_scan)
    first = raster.columns * raster.train_rows
    chosen = np.arange(first, len(x)) if split == "test" else np.arange(first)
    obj, at = simulate_object(source["object"]["kind"], shape, rng_object), (x[chosen], y[chosen])
    detector = simulate_detector(DetectorOptions(**what), 64, len(x), rng_detector).select(chosen)
    if not known and detector.readout is not None:
        detector = replace(detector, readout=np.minimum(detector.readout, 0))
    fields = {"xcoords": at[0], "ycoords": at[1], "probeGuess": probe, "objectGuess": obj}
    fields |= (detector.detector if known else PERFECT).arrays()
    with ScanWriter(path, len(chosen), 64, **fields, metadata={"dose": options.dose}) as scan:
        noise = np.random.default_rng([options.seed, options.dose, int(split == "test")])
        for frames in simulate_scan(obj, probe, at, noise, detector=detector):
            scan.write(frames)
    return open_scan(path)


def by_lsqml(scan: Scan, view: View, config: dict[str, Any], seed: int) -> Reconstruction:
    """Reconstruct as the study's rule `lsqml` does."""
    options = lsqml.LSQMLOptions(**config["lsqml"])
    fit, validation = (lsqml.Exposures.of(scan, view.of_role(role)) for role in (FIT, VALIDATION))
    run = lsqml.LSQMLRun(seed=seed, compact=compact_batching(view, options))
    return lsqml.reconstruct(fit, validation, scan.probe, options, run)


def by_tv(scan: Scan, view: View, config: dict[str, Any], seed: int) -> Reconstruction:
    """Reconstruct as the study's rule `tv` does."""
    counts = Counts.of(scan, usable_exposures(view))
    return tv.reconstruct(counts, scan.probe, tv.TVOptions(**config["tv"]), seed=seed)


METHODS = {"lsqml": by_lsqml, "tv": by_tv}


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Reconstruct and score with every detector."""
    job.limit_threads(1)
    lsqml.load_library()
    config, rows = load_config(CONFIG / "config.yaml"), []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "object.npz")
        names = dict.fromkeys(["perfect", *options.detectors])
        scans = {name: make_scan(Path(folder, f"{name}.npz"), config, options, name) for name in names}
        perfect = scans["perfect"]
        overlap, holdout_fraction = config["views"][options.view], config["grouping"]["holdout_fraction"]
        view = make_view(perfect, overlap, holdout_fraction, np.random.default_rng(options.seed))
        region = shared_region(perfect, [view])
        for name, scan in scans.items():
            for method in options.methods:
                save_reconstruction(path, METHODS[method](scan, view, config, options.seed), method=method)
                scores, _ = score_method(path, perfect, view, region)
                n_bad = 64**2 - scan.detector.n_valid(64)
                row = {"detector": name, "method": method, "bad_pixels": n_bad}
                rows.append(row | {score: round(scores[score], 5) for score in SCORES})
    best = {row["method"]: row for row in rows if row["detector"] == "perfect"}
    for row in rows:
        reference = best[row["method"]]
        row["change"] = {score: round(row[score] - reference[score], 5) for score in SCORES[:-1]}
    return {"dose": options.dose, "view": options.view, "seed": options.seed, "exposures": len(view.exposures)} | {
        "scores": rows
    }


def main() -> None:
    """Parse the command line, run, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--dose", type=int, default=10_000, help="incident photons per exposure (default: %(default)s)")
    add("--view", default="dense", help="overlap view of the default study (default: %(default)s)")
    add("--seed", type=int, default=0, help="seed of noise, roles and splits (default: %(default)s)")
    add("--methods", nargs="+", default=list(METHODS), choices=METHODS, help="default: %(default)s")
    shown = list(DETECTORS)[1:]
    add("--detectors", nargs="*", default=shown, choices=shown, help="beside the perfect one (default: %(default)s)")
    print_json(run(parser.parse_args()))


if __name__ == "__main__":
    main()
