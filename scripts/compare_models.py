#!/usr/bin/env python
"""Compare two saved models, and an iterative reconstruction, on a test scan; no workflow needed.

The networks are applied in chunks, so that memory does not grow with the scan; the outputs are those of the study's
phase G: comparison_metrics.csv, comparison.npz (aligned rectangles) and comparison.png, and object.npz for each method.
"""

import argparse
import json
import sys
from pathlib import Path

from ptycho.workflow import job

EPILOG = """examples:
  python scripts/compare_models.py --pinn_dir results/default/dose_10000/dense/seed_0/pinn \\
      --test_data results/default/data/dose_10000/seed_0/test.npz --output_dir comparison
"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {message} (--help explains)\n")


def positive(text: str) -> int:
    """Take a whole number from 1 on."""
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number from 1 on")
    return int(text)


def make_parser() -> argparse.ArgumentParser:
    """Lay out the command line."""
    parser = _Parser(description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--pinn_dir", required=True, type=Path, metavar="DIR", help="folder of the PINN's model.keras, or that file")
    add("--baseline_dir", type=Path, metavar="DIR", help="the same for the Baseline; without it, it is left out")
    add(
        "--iterative",
        type=Path,
        metavar="NPZ",
        help="an iterative reconstruction: object.npz of phase F, or an NPZ with 'objectGuess' on the truth's pixels",
    )
    add(
        "--test_data",
        required=True,
        type=Path,
        metavar="NPZ",
        help="a scan of the contract (docs/conventions.md), or groups: X (B, N, N, C), global_offsets, local_offsets "
        "or coords_nominal, probeGuess, and YY_full or Y_I and Y_phi",
    )
    add("--output_dir", required=True, type=Path, metavar="DIR", help="where the results go; made if it is not there")
    add(
        "--pinn-chunk-size",
        type=positive,
        default=1000,
        metavar="B",
        help="groups in a chunk (default: 1000); results do not depend on it",
    )
    add("--baseline-chunk-size", type=positive, default=1000, metavar="B", help="the same for the Baseline")
    add("--batch-size", type=positive, default=16, metavar="B", help="groups in a batch (default: 16)")
    add(
        "--n-test-groups",
        type=positive,
        metavar="B",
        help="groups to reconstruct (default: as many as exposures); of a grouped file, the first ones (default: all)",
    )
    add("--gridsize", type=positive, help="patterns of a group along a side (default: the model's)")
    add("--neighbors", type=positive, default=7, metavar="K", help="nearest neighbors to choose from (default: 7)")
    add("--max-spread-px", type=positive, metavar="PX", help="largest extent of a group (default: 3/4 of N)")
    add("--seed", type=int, default=0, help="of the draw of groups and held-out exposures (default: 0)")
    add("--threads", type=positive, default=2, help="threads (default: 2)")
    return parser


def model_file(folder: Path) -> Path:
    """Find the saved model."""
    path = folder / "model.keras" if folder.is_dir() else folder
    if path.suffix != ".keras" or not path.is_file():
        raise FileNotFoundError(f"{folder}: no model.keras there")
    return path


def record_for(options, models) -> dict:
    """Say what makes the results, see `ptycho.workflow.provenance.make_record`."""
    from ptycho.workflow.provenance import make_record

    names = ["comparison_metrics.csv", "comparison.npz", "comparison.png"]
    methods = [*models, *(["iterative"] if options.iterative else [])]
    config = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
    seed = config.pop("seed")
    return make_record(
        __file__,
        config=config,
        seeds={"groups": seed},
        inputs=filter(None, [options.test_data, *models.values(), options.iterative]),
        outputs=[options.output_dir / name for name in (*names, *(f"{method}/object.npz" for method in methods))],
    )


def run(options) -> None:
    """Reconstruct with every model, compare, and write what came out."""
    import numpy as np

    from ptycho.data.grouped_files import open_test_data
    from ptycho.data.npz import keys_of, save_arrays
    from ptycho.data.object_files import Reconstruction, import_object, save_reconstruction
    from ptycho.loader import open_groups
    from ptycho.reporting.figures import plot_comparison, save
    from ptycho.reporting.frc_figures import plot_frc
    from ptycho.reporting.tables import warnings_of, with_condition
    from ptycho.scoring.evaluate import compare, frc_table, shared_region
    from ptycho.workflow.files import save_table

    for path in filter(None, (options.test_data, options.iterative)):
        keys_of(path)  # complain before TensorFlow is imported
    chosen = {"pinn": options.pinn_dir, "baseline": options.baseline_dir}
    files = {method: model_file(folder) for method, folder in chosen.items() if folder is not None}
    sizes = {"pinn": options.pinn_chunk_size, "baseline": options.baseline_chunk_size}
    with job.captured_stderr():
        from ptycho.model.card import load_network
        from ptycho.model.inference import gridsize_of, reconstruct_in_chunks

        networks = {method: load_network(path) for method, path in files.items()}
    gridsize = options.gridsize or gridsize_of(networks["pinn"])
    scan, view = open_test_data(
        options.test_data,
        gridsize,
        n_groups=options.n_test_groups,
        neighbors=options.neighbors,
        max_spread_px=options.max_spread_px,
        seed=options.seed,
    )
    container, objects, record = open_groups(scan, view), {}, record_for(options, files)
    print(f"{options.test_data}: {len(scan)} exposures, {container}", flush=True)
    for method, network in networks.items():
        objects[method] = options.output_dir / method / "object.npz"
        folder = objects[method].parent
        folder.mkdir(parents=True, exist_ok=True)
        args = network, container, sizes[method], options.batch_size
        canvas = reconstruct_in_chunks(*args, folder=folder, label=method)
        made = {"object": canvas.mean(), "illumination": canvas.weight, "origin_px": canvas.origin_px}
        save_reconstruction(objects[method], Reconstruction(**made), method=method, provenance=record)
    if options.iterative:
        objects["iterative"] = options.output_dir / "iterative" / "object.npz"
        import_object(options.iterative, objects["iterative"], scan.object.shape, provenance=record)
    region = shared_region(scan, [view])
    metrics, arrays = compare(objects, scan, view, region)
    dose = round(scan.metadata["dose"])
    metrics = with_condition(metrics, dose=dose, view="all", split="test", seed=options.seed)
    save_table(options.output_dir / "comparison_metrics.csv", metrics)
    metadata = {"origin_px": (region.y0, region.x0), "provenance": record}
    save_arrays(options.output_dir / "comparison.npz", **arrays, metadata=np.array(json.dumps(metadata)))
    numbers = {method: rows.set_index("metric")["value"].to_dict() for method, rows in metrics.groupby("method")}
    title = f"{options.test_data.name}, {dose:,} photons per exposure"
    curves = frc_table(arrays)
    save_table(options.output_dir / "frc.csv", curves)
    save(plot_frc(curves, title), options.output_dir / "frc.png", record)
    seen = {"origin_px": metadata["origin_px"], "warnings": warnings_of(metrics)}
    figure = plot_comparison(arrays.pop("truth"), arrays, numbers, title, **seen)
    save(figure, options.output_dir / "comparison.png", record)
    print(metrics.pivot_table(index="metric", columns="method", values="value", sort=False).to_string())
    print(*(f"WARNING: {warning}" for warning in warnings_of(metrics)), f"Results: {options.output_dir}", sep="\n")


def main(arguments=None) -> int:
    """Run; 2 if the arguments, or the files they name, are wrong."""
    options = make_parser().parse_args(arguments)
    job.limit_threads(options.threads)  # before TensorFlow is imported
    try:
        run(options)
    except (ValueError, OSError) as error:
        print(f"compare_models.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
