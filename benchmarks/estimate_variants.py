"""What the ingredients of the estimate that PINN and Baseline see gain by themselves: no network, no training.

Needs a study whose views exist, with other objects and seeds than those that results are reported for: settings are
chosen here. Every variant reconstructs the test split on one canvas, and is scored as in the study. Prints JSON.

    snakemake --cores 2 --configfile config/variants.yaml -- phase_d
    python benchmarks/estimate_variants.py results/variants --object leaves
"""

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
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
from network_variants import constant, replaced_amplitudes

from ptycho.data.object_files import Reconstruction, save_reconstruction
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.gradient_descent import LAST_BACKGROUND, SMOOTHNESS, gradient_descent
from ptycho.reconstruction.likelihood import Likelihood
from ptycho.workflow import job

VARIANTS: dict[str, tuple[float, Callable[[], AbstractContextManager]]] = {
    "as-it-is": (1, nullcontext),
    "replaced-amplitudes": (1, replaced_amplitudes),
    "constant-background": (1, constant("FIRST_BACKGROUND", LAST_BACKGROUND)),
    "twice-last-background": (1, constant("LAST_BACKGROUND", 2 * LAST_BACKGROUND)),
    "no-smoothness": (1, constant("SMOOTHNESS", 0.0)),
    "half-smoothness": (1, constant("SMOOTHNESS", SMOOTHNESS / 2)),
    "three-halves-smoothness": (1, constant("SMOOTHNESS", 1.5 * SMOOTHNESS)),
    "no-momentum": (1, constant("MOMENTUM", 0.0)),
    "no-slow-phase-gain": (1, constant("SLOW_PHASE_GAIN", 0.0)),
    "half-iterations": (0.5, nullcontext),
    "twice-iterations": (2, nullcontext),
}
"""Variant -> factor of the iterations, and what it replaces in the code."""


def estimate(condition: Condition, iterations: int) -> Reconstruction:
    """Return the estimate of the test split after some iterations, without a network."""
    scan, view = condition.open()
    likelihood = Likelihood(Counts.of(scan, usable_exposures(view)), scan.probe)
    transmittance = likelihood.counts.mean_transmittance(scan.probe)
    flat = np.full(likelihood.shape, transmittance, np.complex64)
    (obj,) = gradient_descent(likelihood, flat, iterations, (iterations,))
    return Reconstruction(object=obj, illumination=likelihood.illumination(), origin_px=likelihood.origin_px)


def main() -> None:
    """Parse the command line, run, print JSON."""
    parser = study_parser(__doc__)
    parser.add_argument("--object", default="", help="one of the study's objects, where it has several")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="default: all")
    options = parser.parse_args()
    job.limit_threads(1)
    iterations = load_study_config(options)["network"]["physics_iterations"]
    root = options.results / f"object_{options.object}" if options.object else options.results
    metrics = []
    with tempfile.TemporaryDirectory() as folder:
        for condition in selected_conditions(options, root, "test.npz"):
            objects = {name: Path(folder) / f"{name}.npz" for name in options.variants}
            for name in options.variants:
                factor, replaced = VARIANTS[name]
                with replaced():
                    result = estimate(condition, round(factor * iterations))
                save_reconstruction(objects[name], result, method=name)
            metrics.append(condition.score(objects))
    print_json(summarize(metrics, options))


if __name__ == "__main__":
    main()
