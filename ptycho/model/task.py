"""What is trained for a method: its network, what it is trained through, its loss and its targets."""

from dataclasses import dataclass

import keras
import numpy as np
from numpy.typing import NDArray

from ptycho.loader import PtychoDataContainer
from ptycho.model.early_stopping import TrainingError, amplitudes_of
from ptycho.model.losses import ComplexDistance, PoissonDeviance
from ptycho.model.networks import NetworkOptions, build_baseline, build_network, build_pinn
from ptycho.physics.forward import blocks, mean_transmittance

METHODS = ("pinn", "baseline")
"""Methods whose networks are trained here."""


def transmittance_of(
    container: PtychoDataContainer, groups: NDArray[np.int64] | None = None, block_size: int = 64
) -> float:
    """Mean amplitude transmittance of groups, sqrt(detected / incident photons), read block by block.

    Parameters
    ----------
    container : PtychoDataContainer
        Groups of a scan.
    groups : (b,) int64, optional
        Indices of the groups; default: all.
    block_size : int
        Groups that are read at once.

    Raises
    ------
    TrainingError
        If frames are not finite.
    """
    groups = np.arange(len(container)) if groups is None else groups
    total = sum(
        float(np.sum(np.square(amplitudes_of(container, groups[part]), dtype=np.float64)))
        for part in blocks(len(groups), block_size)
    )
    return mean_transmittance(total, len(groups) * container.channels, container.probe_array)


@dataclass(frozen=True)
class Task:
    """Models and loss of a training; the models share their weights."""

    network: keras.Model
    """Network that is saved."""
    model: keras.Model
    """Model that is fitted."""
    physics: keras.Model
    """Network followed by the forward model, see `build_pinn`: its predictions are validated."""
    loss: keras.Loss
    """Loss of the fitted model."""
    targets: str
    """Targets of the container's stream that the loss compares with."""


def prepare(
    method: str,
    container: PtychoDataContainer,
    network: NetworkOptions,
    *,
    max_spread_px: int,
    trainable_probe: bool,
    groups: NDArray[np.int64] | None = None,
) -> Task:
    """Build the network of a method and the models to train and validate it.

    Parameters
    ----------
    method : {"pinn", "baseline"}
        Method that the network belongs to.
    container : PtychoDataContainer
        Groups of the train split.
    network : NetworkOptions
        Architecture of the network.
    max_spread_px : int
        Largest extent of a group's positions along an axis [px].
    trainable_probe : bool
        Refine the probe, too (PINN).
    groups : (b,) int64, optional
        Groups to train on, whose transmittance is the normalization; default: all.

    Returns
    -------
    Task
        Models and loss.

    Raises
    ------
    TrainingError
        If the method is unknown, or frames are not finite.
    """
    if method not in METHODS:
        raise TrainingError(f"method '{method}'; wanted one of {METHODS}")
    probe, shape = container.probe_array, (container.n_pixels, container.channels)
    built = build_network(*shape, probe, network, transmittance=transmittance_of(container, groups))
    pinn = build_pinn(built, probe, max_spread_px, trainable_probe=trainable_probe and method == "pinn")
    if method == "pinn":
        return Task(built, pinn, pinn, PoissonDeviance(), "diffraction")
    intensity = np.abs(probe) ** 2
    loss = ComplexDistance((intensity / intensity.mean()).tolist())
    return Task(built, build_baseline(built), pinn, loss, "object")
