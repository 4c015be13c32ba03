"""What an unrolled network should see at once: groups of C exposures, tiles, or the whole scan on one canvas.

Takes the results of a study in which `unrolled` has run. For every condition its network reconstructs the test view's
FIT and STOP exposures four times: group by group, as the PINN sees them (the view's groups, each on a canvas of its
own, weighted by its illumination and turned to the phase of those before it); the same with a network of the same
settings that was trained on canvases of a group's extent; in tiles with a halo; and whole. Prints JSON: for every view
and dose, mean and standard deviation over seeds of the metrics, and of their paired differences from the whole.

    python benchmarks/group_canvases.py results/methods
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from tqdm import tqdm
from unseen import METRICS, told

from ptycho.data.canvas import Canvas
from ptycho.data.grouping import FIT, STOP
from ptycho.data.object_files import save_object
from ptycho.data.scan import open_scan
from ptycho.data.tiles import cut_tiles
from ptycho.data.views import open_view
from ptycho.reconstruction.likelihood import Counts
from ptycho.reconstruction.tv import TotalVariation
from ptycho.scoring.evaluate import Region, score_method
from ptycho.workflow import job
from ptycho.workflow.paths import condition_of


def group_parts(network, scan, view):
    """Yield a canvas for every group of a view, from the top of the scan to its bottom."""
    from ptycho.model.unrolled import apply_unrolled

    height = scan.ycoords[view.nn_indices].mean(axis=1)
    for group in tqdm(view.nn_indices[np.argsort(height)], desc="groups", mininterval=5):
        obj, light, origin = apply_unrolled(network, Counts.of(scan, np.sort(group)), scan.probe)
        yield Canvas(light * obj, light, origin)


def tile_parts(network, scan, view, size_px: float):
    """Yield a canvas for every tile."""
    from ptycho.model.unrolled import reconstruct_tiles

    counts = Counts.of(scan, view.of_role(FIT, STOP))
    yield from reconstruct_tiles(
        network, counts, scan.probe, cut_tiles(counts.xcoords, counts.ycoords, size_px, scan.n_pixels)
    )


def put_together(parts, scan, view, path: Path) -> None:
    """Merge canvases as they come, each turned to what is there, and save the object."""
    chosen, clock = view.of_role(FIT, STOP), job.CpuClock()
    whole = Canvas.around(scan.xcoords[chosen], scan.ycoords[chosen], scan.n_pixels)
    for part in parts:
        whole.include(part, synchronised=True)
    save_object(path, whole.mean(), whole.weight, whole.origin_px, cpu_s=clock.seconds)


def extent_px(scan, view) -> float:
    """Extent of the positions of a view's groups, median of the larger of both axes [px]."""
    spread = [np.ptp(axis[view.nn_indices], axis=1) for axis in (scan.xcoords, scan.ycoords)]
    return float(np.median(np.max(spread, axis=0)))


def run(options) -> dict:
    """Reconstruct and score every condition that was asked for."""
    from ptycho.model.inference import load_network
    from ptycho.model.unrolled import Unrolled, train_unrolled

    config, rows = yaml.safe_load(options.config.read_text()), []
    region = Region.load(options.results / "region/test.json")
    models = sorted(options.results.glob("dose_*/*/seed_*/unrolled/model.keras"))
    conditions = [(file, condition_of(file)) for file in models]
    conditions = [(file, where) for file, where in conditions if where["seed"] in options.seeds]
    conditions = [(file, where) for file, where in conditions if where["dose"] in (options.doses or [where["dose"]])]
    for model, where in tqdm(conditions, unit="condition"):
        place = model.parents[1]
        scans = options.results / f"data/dose_{where['dose']}/seed_{where['seed']}"
        scan, view = open_scan(scans / "test.npz"), open_view(place / "test.npz")
        network, train = load_network(model), open_scan(scans / "train.npz")
        small = Unrolled(**config["unrolled"] | {"tile_px": extent_px(scan, view)})
        counts = Counts.of(train, open_view(place / "train.npz").of_role(FIT, STOP))
        of_groups, _ = train_unrolled(counts, train.probe, small, TotalVariation(**config["tv"]), seed=where["seed"])
        ways = {
            "groups": group_parts(network, scan, view),
            "groups, trained on them": group_parts(of_groups, scan, view),
            f"tiles of {options.tile_px:g} px": tile_parts(network, scan, view, options.tile_px),
            "whole": tile_parts(network, scan, view, np.inf),
        }
        with tempfile.TemporaryDirectory() as folder:
            for name, parts in ways.items():
                path = Path(folder, "object.npz")
                put_together(parts, scan, view, path)
                values, facts = score_method(path, scan, view, region)[0], {**where, "split": "test", "method": name}
                rows += [{**facts, "metric": key, "value": values[key]} for key in METRICS]
    return told(pd.DataFrame(rows), options)


def main() -> None:
    """Take the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="folder of a study's results: results/methods")
    parser.add_argument(
        "--config", type=Path, default=Path("config/methods.yaml"), help="its config (config/methods.yaml)"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the study (0 1 2)")
    parser.add_argument("--doses", type=int, nargs="+", help="of the study (all)")
    parser.add_argument("--tile-px", type=float, default=64, help="largest extent of a tile's core (64)")
    job.limit_threads(1)
    print(json.dumps(run(parser.parse_args()), indent=1))


if __name__ == "__main__":
    main()
