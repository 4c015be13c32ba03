"""How much of a scan the unrolled network should see at once: groups of C exposures, tiles, or the whole scan.

Takes the results of a study in which `unrolled` has run. For every condition the usable exposures of the test view are
reconstructed in four ways: the view's groups one by one, as the PINN sees them; the same with a network of the same
settings that was trained on tiles of a group's extent; in tiles with a halo; and all on one canvas. Groups and tiles
are reconstructed on canvases of their own, which are then merged with synchronized phases, weighted by illumination.
Prints JSON: for every view and dose, mean and standard deviation over seeds of the metrics, and of their paired
differences.

    python benchmarks/group_canvases.py results/methods
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from conditions import (
    Condition,
    load_study_config,
    print_json,
    selected_conditions,
    study_parser,
    summarize,
    usable_exposures,
)
from tqdm import tqdm

from ptycho.data.canvas import Canvas
from ptycho.data.object_files import Reconstruction, save_reconstruction
from ptycho.data.scan import Scan
from ptycho.data.tiles import cut_tiles
from ptycho.data.views import View
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.tv import TVOptions
from ptycho.workflow import job


def group_canvases(model, scan: Scan, view: View) -> Iterator[Canvas]:
    """Reconstruct the groups of a view one by one, from the top of the scan to its bottom."""
    from ptycho.model.unrolled import apply_unrolled

    height = scan.ycoords[view.nn_indices].mean(axis=1)
    for group in tqdm(view.nn_indices[np.argsort(height)], desc="groups", unit="group", mininterval=5):
        part = apply_unrolled(model, Counts.of(scan, np.sort(group)), scan.probe)
        yield Canvas(part.illumination * part.object, part.illumination, part.origin_px)


def tile_canvases(model, scan: Scan, view: View, tile_px: float) -> Iterator[Canvas]:
    """Reconstruct a view tile by tile; with infinite tiles, all on one canvas."""
    from ptycho.model.unrolled import reconstruct_tiles

    counts = Counts.of(scan, usable_exposures(view))
    tiles = cut_tiles(counts.xcoords, counts.ycoords, tile_px, scan.n_pixels)
    yield from reconstruct_tiles(model, counts, scan.probe, tiles)


def merge_as_they_come(canvases: Iterator[Canvas], scan: Scan, view: View) -> Reconstruction:
    """Merge canvases, the phase of each synchronized with those before it; their reconstruction counts as cost."""
    exposures, clock = usable_exposures(view), job.CpuClock()
    whole = Canvas.around(scan.xcoords[exposures], scan.ycoords[exposures], scan.n_pixels)
    for canvas in canvases:
        whole.include(canvas, synchronized=True)
    obj = whole.mean()
    return Reconstruction(object=obj, illumination=whole.weight, origin_px=whole.origin_px, cpu_s=clock.seconds)


def group_extent_px(scan: Scan, view: View) -> float:
    """Extent of a group's positions along its longer axis, median over the groups [px]."""
    extents = [np.ptp(axis[view.nn_indices], axis=1) for axis in (scan.xcoords, scan.ycoords)]
    return float(np.median(np.max(extents, axis=0)))


def train_on_groups(condition: Condition, config: dict, extent_px: float):
    """Train an unrolled network with the study's settings on tiles of a group's extent."""
    from ptycho.model.unrolled import UnrolledOptions, train_unrolled

    scan, view = condition.open("train")
    options = UnrolledOptions(**config["unrolled"] | {"tile_px": extent_px})
    counts, prior = Counts.of(scan, usable_exposures(view)), TVOptions(**config["tv"])
    return train_unrolled(counts, scan.probe, options, prior, seed=condition.labels["seed"])[0]


def run(options: argparse.Namespace) -> dict:
    """Reconstruct and score the selected conditions."""
    job.limit_threads(1)
    from ptycho.model.unrolled import UnrolledModel

    config, metrics = load_study_config(options), []
    for condition in selected_conditions(options, options.results, "unrolled/model.keras"):
        scan, view = condition.open()
        model = UnrolledModel.load(condition.model_path("unrolled"))
        group_model = train_on_groups(condition, config, group_extent_px(scan, view))
        variants = {
            "groups": group_canvases(model, scan, view),
            "groups, trained on them": group_canvases(group_model, scan, view),
            f"tiles of {options.tile_px:g} px": tile_canvases(model, scan, view, options.tile_px),
            "whole": tile_canvases(model, scan, view, np.inf),
        }
        with tempfile.TemporaryDirectory() as folder:
            paths = {name: Path(folder, f"{number}.npz") for number, name in enumerate(variants)}
            for name, canvases in variants.items():
                save_reconstruction(paths[name], merge_as_they_come(canvases, scan, view))
            metrics.append(condition.score(paths))
    return summarize(metrics, options)


def main() -> None:
    """Parse the command line, run, print JSON."""
    parser = study_parser(__doc__)
    parser.add_argument(
        "--tile-px", type=float, default=64, help="largest extent of a tile's core [px] (default: %(default)s)"
    )
    print_json(run(parser.parse_args()))


if __name__ == "__main__":
    main()
