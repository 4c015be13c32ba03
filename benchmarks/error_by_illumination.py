"""Where a method is better than another: the error of finished reconstructions in dim and in bright pixels.

Takes the results of a study. The pixels of the scored rectangle are divided into classes of equal size by the
illumination of the view; each reconstruction is aligned as for its score. Prints JSON: mean and standard deviation over
seeds of the relative error in every class, from the dimmest to the brightest, and of its paired difference
from the first method, in units of the norm of the truth in the class.

    python benchmarks/error_by_illumination.py results/methods --methods pinn baseline --views sparse
"""

import numpy as np
import pandas as pd
from conditions import Condition, print_json, records, selected_conditions, settings_of, study_parser
from numpy.typing import NDArray

from ptycho.scoring.placement import MARGIN_PX, align_if_possible, illumination_on, load_on_grid
from ptycho.scoring.region import Region


def classes_of(illumination: NDArray[np.float64], n_classes: int) -> NDArray[np.int64]:
    """Number pixels by their illumination, from 0, the dimmest, in classes of the same size, give or take a pixel."""
    ranks = np.argsort(np.argsort(illumination, axis=None, kind="stable"))
    return (ranks * n_classes // ranks.size).reshape(illumination.shape)


def errors_by_class(condition: Condition, methods: list[str], n_classes: int) -> pd.DataFrame:
    """Return the error of every method in every class of pixels: columns method, class, illumination, error."""
    region = Region.load(condition.root / "region/test.json")
    scan, view = condition.open()
    wide = region.widened(MARGIN_PX, scan.object.shape)
    weight, truth = illumination_on(wide, scan, view), scan.object[wide.box]
    inside = region.inside(wide)
    classes = classes_of(weight[inside], n_classes)
    rows = []
    for method in methods:
        obj, _ = load_on_grid(condition.object_path(method), scan.object.shape)
        aligned, _ = align_if_possible(obj[wide.box], truth, weight, inside, name=condition.object_path(method))
        for number in range(n_classes):
            pixels = classes == number
            distance = np.linalg.norm((aligned - truth[inside])[pixels]) / np.linalg.norm(truth[inside][pixels])
            photons = weight[inside][pixels].mean()
            rows.append({"method": method, "class": number, "illumination": photons, "error": distance})
    return pd.DataFrame(rows).assign(**condition.labels)


def main() -> None:
    """Parse the command line, measure, print JSON."""
    parser = study_parser(__doc__, config=False)
    parser.add_argument("--methods", nargs="+", required=True, help="methods to compare with the first")
    parser.add_argument("--classes", type=int, default=4, help="classes of pixels (default: %(default)s)")
    options = parser.parse_args()
    needed = [f"test/{method}/object.npz" for method in options.methods]
    tables = [
        errors_by_class(condition, options.methods, options.classes)
        for condition in selected_conditions(options, options.results, *needed)
    ]
    table = pd.concat(tables, ignore_index=True)
    first = table[table["method"] == options.methods[0]].drop(columns=["method", "illumination"])
    table = table.merge(first, on=["view", "dose", "class", "seed"], suffixes=("", "_first"), validate="many_to_one")
    table["difference"] = table["error"] - table["error_first"]
    grouped = table.groupby(["view", "dose", "class", "method"], sort=False)
    columns = {name: grouped[name].mean() for name in ("illumination", "error", "difference")}
    spread = {f"{name}_sd": grouped[name].std() for name in ("error", "difference")}
    print_json({"settings": settings_of(options), "errors": records(pd.DataFrame(columns | spread).reset_index())})


if __name__ == "__main__":
    main()
