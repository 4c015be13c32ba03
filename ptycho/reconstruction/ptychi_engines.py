"""Engines of pty-chi and where they compute: LSQML, the study's, and others that `benchmarks/peers.py` compares with.

PyTorch and pty-chi are imported by the functions that need them, not with this module.
"""

import logging
from dataclasses import dataclass
from functools import cache
from typing import Any

from ptycho.reconstruction.devices import wants_gpu

LSQML, RPIE, EPIE = "lsqml", "rpie", "epie"
"""LSQML (Odstrčil, Menzel and Guizar-Sicairos, Opt. Express 26, 3108, 2018); rPIE with pty-chi's α = 0.1 and, as ePIE,
with α = 1 (Maiden, Johnson and Li, Optica 4, 736, 2017)."""
HESSIAN_CG, HESSIAN_GD = "bilinear_hessian_cg", "bilinear_hessian_gd"
"""Steps that follow from the bilinear Hessian (Carlsson and Nikitin, 2025): conjugate gradients of all exposures at
once, and gradient descent in batches."""
ENGINES = (LSQML, RPIE, EPIE, HESSIAN_CG, HESSIAN_GD)
"""What `setup_of` knows."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Solver:
    """What all engines are told."""

    engine: str
    """One of `ENGINES`."""
    device: str
    """`cpu` or `cuda`, see `torch_device`."""
    epochs: int
    """Largest number of passes."""
    batch_size: int
    """Exposures per update, if it is not that of all at once."""
    seed: int
    """Seed of the order of the batches."""
    step_size: float
    """Factor on the updates of the object."""
    compact: bool = False
    """Batches of neighbors with half the momentum; LSQML alone."""
    free_probe: bool = False
    """Whether the probe is refined, too; LSQML alone."""


def setup_of(solver: Solver, count: int) -> Any:
    """Return pty-chi's options for so many exposures; positions are known.

    Raises
    ------
    ValueError
        If there is no such engine.
    """
    import ptychi.api as api

    if solver.engine not in ENGINES:
        raise ValueError(f"engine: {solver.engine!r}; wanted one of {', '.join(ENGINES)}")
    setup = _own_setup(api, solver)
    options = setup.reconstructor_options
    options.default_device = api.Devices.CPU if solver.device == "cpu" else api.Devices.GPU
    options.num_epochs = solver.epochs
    options.batch_size = count if solver.engine == HESSIAN_CG else min(solver.batch_size, count)
    options.random_seed = solver.seed
    setup.object_options.optimizer = api.Optimizers.SGD
    setup.object_options.step_size = solver.step_size
    setup.probe_options.optimizable = solver.free_probe
    if not solver.free_probe:
        setup.object_options.remove_object_probe_ambiguity.enabled = False
    return setup


def _own_setup(api: Any, solver: Solver) -> Any:
    """Return the options that an engine alone has."""
    if solver.engine in (RPIE, EPIE):
        setup = api.RPIEOptions()
        setup.object_options.alpha = 0.1 if solver.engine == RPIE else 1.0
        return setup
    if solver.engine in (HESSIAN_CG, HESSIAN_GD):
        setup = api.BHOptions()
        setup.reconstructor_options.method = "CG" if solver.engine == HESSIAN_CG else "GD"
        return setup
    setup = api.LSQMLOptions()
    options = setup.reconstructor_options
    options.noise_model = api.NoiseModels.GAUSSIAN
    if solver.compact:
        options.batching_mode = api.BatchingModes.COMPACT
        options.momentum_acceleration_gain = 0.5
    if not solver.free_probe:
        options.rescale_probe_intensity_in_first_epoch = False
        options.single_slice_solve_obj_prb_step_size_jointly = False
    return setup


@cache
def torch_device(choice: str = "auto") -> str:
    """Return where PyTorch computes, `cpu` or `cuda`.

    Parameters
    ----------
    choice : {"auto", "cpu", "gpu"}
        With `auto`, the GPU is taken if there is one and PyTorch sees it; a GPU that it does not see is worth a
        warning.

    Raises
    ------
    ValueError
        If the name is another, or the GPU is asked for and cannot be used.
    """
    if not wants_gpu(choice):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    reason = "PyTorch is built without CUDA" if torch.version.cuda is None else "PyTorch sees no GPU or no driver"
    wanted = "wanted a build of PyTorch with CUDA, and its driver"
    if choice == "gpu":
        raise ValueError(f"device: gpu cannot be used ({reason}); {wanted}")
    _logger.warning("There is a GPU, but LSQML is computed on the CPU (%s); %s", reason, wanted)
    return "cpu"
