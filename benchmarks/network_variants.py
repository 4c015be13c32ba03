"""What the ingredients of PINN and Baseline gain: training and error with one of them changed at a time.

Needs a study whose views exist, with other objects and seeds than those that results are reported for: settings are
chosen here. Each variant trains on the train split, reconstructs the test split in one tile, and is scored
as in the study. Prints JSON.

    snakemake --cores 2 --configfile config/variants.yaml -- phase_d
    python benchmarks/network_variants.py results/variants --object lines --doses 10000 --variants pinn deeper
"""

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from unittest.mock import patch

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

from ptycho.data.object_files import Reconstruction, save_reconstruction
from ptycho.data.tiles import TilingOptions, cut_view
from ptycho.data.views import VALIDATION, GroupingOptions, with_groups
from ptycho.reconstruction import gradient_descent as gradient_descent_module
from ptycho.reconstruction.likelihood import Likelihood
from ptycho.workflow import job

FILES = "train.npz", "test.npz"


def constant(name: str, value: float) -> Callable[[], AbstractContextManager]:
    """Change a constant of gradient descent."""
    return lambda: patch.object(gradient_descent_module, name, value)


def replaced_amplitudes() -> AbstractContextManager:
    """Minimize the squared error of amplitudes in place of the Poisson deviance, as error reduction does."""

    def gradient(self: Likelihood, obj: np.ndarray) -> np.ndarray:
        return -gradient_descent_module.CURVATURE * self.amplitude_update(obj)

    return patch.object(Likelihood, "gradient", gradient)


def levels(count: int) -> Callable[[], AbstractContextManager]:
    """Give the U-Net another number of resolutions."""
    return lambda: patch.multiple("ptycho.model.unet", LEVELS=count, MULTIPLE=2 ** (count - 1))


def no_choice() -> AbstractContextManager:
    """Let the network correct the last estimate alone."""
    return patch("ptycho.model.layers.FIRST_LOGIT", 1.0e4)


VARIANTS: dict[str, tuple[dict, Callable[[], AbstractContextManager]]] = {
    "pinn": ({}, nullcontext),
    "baseline": ({}, nullcontext),
    "no-momentum": ({}, constant("MOMENTUM", 0.0)),
    "no-slow-phase-gain": ({}, constant("SLOW_PHASE_GAIN", 0.0)),
    "no-smoothness": ({}, constant("SMOOTHNESS", 0.0)),
    "twice-smoothness": ({}, constant("SMOOTHNESS", 16.0)),
    "constant-background": ({}, constant("FIRST_BACKGROUND", gradient_descent_module.LAST_BACKGROUND)),
    "replaced-amplitudes": ({}, replaced_amplitudes),
    "no-iterations": ({"physics_iterations": 0}, nullcontext),
    "half-iterations": ({"physics_iterations": 15}, nullcontext),
    "twice-iterations": ({"physics_iterations": 60}, nullcontext),
    "no-choice": ({}, no_choice),
    "deeper": ({}, levels(4)),
    "groups-of-4": ({"gridsize": 2, "neighbors": 7}, nullcontext),
    "groups-of-36": ({"gridsize": 6, "neighbors": 40, "max_spread": 9}, nullcontext),
    "half-photons": ({"fit_fraction": 0.5}, nullcontext),
    "twice-steps": ({"steps": 700}, nullcontext),
    "twice-filters": ({"filters": 32}, nullcontext),
    "tiles-of-64-px": ({"tile_px": 64, "halo_px": 32}, nullcontext),
}
"""Variant -> what it changes in the config of grouping, network, training or inference, and what it replaces in the
code. All but "baseline" train a PINN."""


def with_changes(config: dict, changes: dict) -> dict:
    """Return the sections of a config with some of their keys changed."""
    sections = {name: dict(config[name]) for name in ("grouping", "network", "training", "inference")}
    for key, value in changes.items():
        next(section for section in sections.values() if key in section)[key] = value
    return sections


def train_variant(name: str, condition: Condition, config: dict) -> tuple[Reconstruction, float]:
    """Train one variant and reconstruct the test split; return the reconstruction, and the training's CPU time [s]."""
    from ptycho.loader import open_groups, open_tiles
    from ptycho.model.inference import reconstruct_in_chunks
    from ptycho.model.networks import NetworkOptions
    from ptycho.model.training import TrainingOptions, TrainingRun, train

    changes, replaced = VARIANTS[name]
    sections, (scan, view) = with_changes(config, changes), condition.open("train")
    tiling = TilingOptions(**{key: sections["inference"][key] for key in ("tile_px", "halo_px")})
    if "gridsize" in changes:
        view = with_groups(view, scan, GroupingOptions(**sections["grouping"]), np.random.default_rng(0))
    run = TrainingRun(validation=view.of_role(VALIDATION), seed=condition.labels["seed"])
    options = NetworkOptions(**sections["network"]), TrainingOptions(**sections["training"])
    with replaced():
        clock = job.CpuClock()
        model, _ = train("baseline" if name == "baseline" else "pinn", open_groups(scan, view), *options, run)
        training_s = clock.seconds
        scan, view = condition.open()
        tiles = cut_view(scan, usable_exposures(view), tiling)
        result = reconstruct_in_chunks(model, open_tiles(scan, tiles), tiles, 1, sections["inference"]["batch_size"])
    return result, training_s


def main() -> None:
    """Parse the command line, run, print JSON."""
    parser = study_parser(__doc__)
    parser.add_argument("--object", default="", help="one of the study's objects, where it has several")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="default: all")
    parser.add_argument("--steps", type=int, help="steps of training (default: the config's)")
    options = parser.parse_args()
    job.limit_threads(1)
    config = load_study_config(options)
    config["training"]["steps"] = options.steps or config["training"]["steps"]
    root = options.results / f"object_{options.object}" if options.object else options.results
    metrics, seconds = [], []
    with tempfile.TemporaryDirectory() as folder:
        for condition in selected_conditions(options, root, *FILES):
            objects = {}
            for name in options.variants:
                result, training_s = train_variant(name, condition, config)
                objects[name] = Path(folder) / f"{name}.npz"
                save_reconstruction(objects[name], result, method=name)
                seconds.append({"variant": name, **condition.labels, "training_cpu_s": round(training_s, 1)})
            metrics.append(condition.score(objects))
    print_json({**summarize(metrics, options, prefix="pinn"), "training": seconds})


if __name__ == "__main__":
    main()
