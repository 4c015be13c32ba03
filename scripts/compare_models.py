#!/usr/bin/env python
"""Compare two saved models, and an iterative reconstruction, on a test scan, without the workflow.

Networks are applied in chunks, so that memory does not grow with the scan. The results are those of the study's phase
G: comparison_metrics.csv, comparison.npz (aligned rectangles), comparison.png, frc.csv and frc.png, and an object.npz
for each method.
"""

import argparse
import json
import sys
from pathlib import Path

from ptycho.workflow import job
from ptycho.workflow.limits import gigabytes, limited_to

EPILOG = """examples:
  python scripts/compare_models.py --pinn_dir results/default/dose_10000/dense/seed_0/pinn \\
      --test_data results/default/data/dose_10000/seed_0/test.npz --output_dir comparison
"""


class _Parser(argparse.ArgumentParser):
    """Reports errors in one line."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {message} (--help explains)\n")


def positive(text: str) -> int:
    """Parse an integer that is at least 1."""
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"'{text}' is not a positive integer")
    return int(text)


def make_parser() -> argparse.ArgumentParser:
    """Define the command line."""
    parser = _Parser(description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--pinn_dir", required=True, type=Path, metavar="DIR", help="folder of the PINN's model.keras, or that file")
    add("--baseline_dir", type=Path, metavar="DIR", help="the same for the Baseline (default: no Baseline)")
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
        help="a scan of the data contract (docs/reference/files.md), or groups: X (B, N, N, C), global_offsets, "
        "local_offsets or coords_nominal, probeGuess, and YY_full or Y_I and Y_phi",
    )
    add("--output_dir", required=True, type=Path, metavar="DIR", help="folder of the results; created if missing")
    add(
        "--pinn-chunk-size",
        type=positive,
        default=1000,
        metavar="B",
        help="tiles in a chunk (default: 1000); results do not depend on it",
    )
    add("--baseline-chunk-size", type=positive, default=1000, metavar="B", help="the same for the Baseline")
    add(
        "--batch-size", type=positive, default=16, metavar="B", help="exposures that are computed at once (default: 16)"
    )
    add(
        "--n-test-groups",
        type=positive,
        metavar="B",
        help="tiles of the scan, or groups of a grouped file, to reconstruct, from the first one on (default: all)",
    )
    add(
        "--tile-px",
        type=positive,
        default=512,
        metavar="PX",
        help="largest extent of a tile's positions (default: 512)",
    )
    add("--halo-px", type=positive, metavar="PX", help="width of the halo around a tile (default: N)")
    add("--seed", type=int, default=0, help="seed of the draw of holdout exposures (default: 0)")
    add("--max-gb", type=gigabytes, metavar="GB", help="memory that a file may claim (default: half of this machine's)")
    add("--threads", type=positive, default=2, help="number of threads (default: 2)")
    return parser


def model_file(folder: Path) -> Path:
    """Return the path of a saved model, given the file or its folder."""
    path = folder / "model.keras" if folder.is_dir() else folder
    if path.suffix != ".keras" or not path.is_file():
        raise FileNotFoundError(f"{folder}: no model.keras there")
    return path


def record_for(options, models) -> dict:
    """Return the record of what makes the results, see `ptycho.workflow.provenance.make_record`."""
    from ptycho.workflow.provenance import make_record

    names = ["comparison_metrics.csv", "comparison.npz", "comparison.png", "frc.csv", "frc.png"]
    methods = [*models, *(["iterative"] if options.iterative else [])]
    config = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
    seed = config.pop("seed")
    del config["max_gb"]  # no result depends on it
    return make_record(
        __file__,
        config=config,
        seeds={"holdout": seed},
        inputs=filter(None, [options.test_data, *models.values(), options.iterative]),
        outputs=[options.output_dir / name for name in (*names, *(f"{method}/object.npz" for method in methods))],
    )


def load_models(options) -> tuple[dict, dict]:
    """Return the files of the models, and the models, by method."""
    folders = {"pinn": options.pinn_dir, "baseline": options.baseline_dir}
    files = {method: model_file(folder) for method, folder in folders.items() if folder is not None}
    with job.captured_stderr():
        from ptycho.model.inference import load_model

        return files, {method: load_model(path) for method, path in files.items()}


def open_data(options):
    """Open the test data as tiles."""
    from ptycho.data.grouped_files import open_test_data

    tiling = {"tile_px": options.tile_px, "halo_px": options.halo_px}
    return open_test_data(options.test_data, n_groups=options.n_test_groups, seed=options.seed, **tiling)


def reconstruct(options, files, models, scan, tiles, record) -> dict[str, Path]:
    """Reconstruct with every model, import the iterative reconstruction; return the object files by method."""
    from ptycho.data.object_files import save_reconstruction
    from ptycho.data.tiles import halo_warning
    from ptycho.formats.images import import_object
    from ptycho.loader import open_tiles
    from ptycho.model.inference import probe_warning, reconstruct_in_chunks

    if warning := halo_warning(tiles, scan.n_pixels):
        print(f"WARNING: {warning}", flush=True)
    container, objects = open_tiles(scan, tiles), {}
    print(f"{options.test_data}: {len(scan)} exposures, {container}", flush=True)
    sizes = {"pinn": options.pinn_chunk_size, "baseline": options.baseline_chunk_size}
    for method, model in models.items():
        if warning := probe_warning(files[method], scan.probe):
            print(f"WARNING: {warning}", flush=True)
        objects[method] = options.output_dir / method / "object.npz"
        folder = objects[method].parent
        folder.mkdir(parents=True, exist_ok=True)
        print(f"{method}: {files[method]}", flush=True)
        result = reconstruct_in_chunks(model, container, tiles, sizes[method], options.batch_size, folder)
        save_reconstruction(objects[method], result, method=method, provenance=record)
    if options.iterative:
        objects["iterative"] = options.output_dir / "iterative" / "object.npz"
        import_object(options.iterative, objects["iterative"], scan.object.shape, provenance=record)
    return objects


def score(options, objects, scan, view, record) -> None:
    """Score all methods; write tables, arrays and figures, and print the metrics."""
    import numpy as np

    from ptycho.data.npz import save_arrays
    from ptycho.reporting.figures import plot_comparison, save
    from ptycho.reporting.frc_figures import plot_frc
    from ptycho.scoring.evaluate import compare, frc_table
    from ptycho.scoring.metric_tables import warnings_of, with_condition
    from ptycho.scoring.region import shared_region
    from ptycho.workflow.files import save_table

    folder, dose, region = options.output_dir, round(scan.metadata["dose"]), shared_region(scan, [view])
    table, arrays = compare(objects, scan, view, region)
    table = with_condition(table, dose=dose, view="all", split="test", seed=options.seed)
    save_table(folder / "comparison_metrics.csv", table)
    warnings, name = warnings_of(table), "truth" if scan.metadata.get("source") == "simulated" else "reference"
    metadata = {"origin_px": region.origin_px, "reference_name": name, "provenance": record}
    save_arrays(folder / "comparison.npz", **arrays, metadata=np.array(json.dumps(metadata)))
    title, curves = f"{options.test_data.name}, {dose:,} photons per exposure", frc_table(arrays)
    save_table(folder / "frc.csv", curves)
    save(plot_frc(curves, title, reference_name=name), folder / "frc.png", record)
    metrics = {method: rows.set_index("metric")["value"].to_dict() for method, rows in table.groupby("method")}
    figure = plot_comparison(arrays, metrics, title, origin_px=region.origin_px, warnings=warnings, reference_name=name)
    save(figure, folder / "comparison.png", record)
    print(table.pivot_table(index="metric", columns="method", values="value", sort=False).to_string())
    print(*(f"WARNING: {warning}" for warning in warnings), f"Results: {folder}", sep="\n")


def run(options) -> None:
    """Reconstruct with every model, compare, and write the results."""
    from ptycho.data.npz import keys_of

    for path in filter(None, (options.test_data, options.iterative)):
        keys_of(path)  # fail before TensorFlow is imported
    files, models = load_models(options)
    scan, view, tiles = open_data(options)
    record = record_for(options, files)
    objects = reconstruct(options, files, models, scan, tiles, record)
    score(options, objects, scan, view, record)


def main(arguments=None) -> int:
    """Run; return 2 if the arguments, or the files they name, are invalid."""
    options = make_parser().parse_args(arguments)
    job.show_messages()
    job.limit_threads(options.threads)  # before TensorFlow is imported
    try:
        with limited_to(options.max_gb):
            run(options)
    except (ValueError, OSError, MemoryError) as error:
        print(f"compare_models.py: {str(error) or 'not enough memory'}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
