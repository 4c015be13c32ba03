"""Engines of pty-chi and where they compute: LSQML, the study's, and two that `benchmarks/peers.py` compares with.

PyTorch and pty-chi are imported by the functions that need them, not with this module.
"""

import logging
from dataclasses import dataclass
from functools import cache
from typing import Any

from ptycho.reconstruction.devices import wants_gpu

LSQML, RPIE, BILINEAR_HESSIAN = ENGINES = ("lsqml", "rpie", "bilinear_hessian")
"""LSQML (Odstrčil, Menzel and Guizar-Sicairos, Opt. Express 26, 3108, 2018), rPIE (Maiden, Johnson and Li, Optica 4,
736, 2017), and conjugate gradients whose steps follow from the bilinear Hessian (Carlsson and Nikitin, 2025)."""

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
    """Exposures per update; the bilinear Hessian takes all of them at once."""
    seed: int
    """Seed of the order of the batches."""
    step_size: float
    """Factor on the updates of the object."""
    rpie_alpha: float = 1.0
    """α of rPIE: from 0, a step that divides by the local intensity of the probe, to 1, by its largest (ePIE)."""
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

    makers = {LSQML: _lsqml, RPIE: _rpie, BILINEAR_HESSIAN: _bilinear_hessian}
    if solver.engine not in makers:
        raise ValueError(f"engine: {solver.engine!r}; wanted one of {', '.join(ENGINES)}")
    setup = makers[solver.engine](api, solver)
    options = setup.reconstructor_options
    options.default_device = api.Devices.CPU if solver.device == "cpu" else api.Devices.GPU
    options.num_epochs = solver.epochs
    options.batch_size = count if solver.engine == BILINEAR_HESSIAN else min(solver.batch_size, count)
    options.random_seed = solver.seed
    setup.object_options.optimizer = api.Optimizers.SGD
    setup.object_options.step_size = solver.step_size
    setup.probe_options.optimizable = solver.free_probe
    if not solver.free_probe:
        setup.object_options.remove_object_probe_ambiguity.enabled = False
    return setup


def _lsqml(api: Any, solver: Solver) -> Any:
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


def _rpie(api: Any, solver: Solver) -> Any:
    setup = api.RPIEOptions()
    setup.object_options.alpha = solver.rpie_alpha
    return setup


def _bilinear_hessian(api: Any, solver: Solver) -> Any:
    setup = api.BHOptions()
    setup.reconstructor_options.method = "CG"  # in one batch, as pty-chi wants it
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
