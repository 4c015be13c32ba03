"""Inference: trained models over the tiles of a view, each a canvas with a core and a halo, in any number of chunks."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, get_type_hints

import keras
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ptycho.data.canvas import Canvas
from ptycho.data.object_files import Reconstruction, Refined
from ptycho.data.tiles import Tile, canvas_of
from ptycho.loader import PtychoDataContainer
from ptycho.model.card import PROBE_TRAINED, load_network, read_card, read_probe
from ptycho.model.networks import CanvasModel, Estimator
from ptycho.model.unrolled import UnrolledModel
from ptycho.physics.forward import as_modes, blocks
from ptycho.reconstruction.counts import Counts
from ptycho.reconstruction.devices import MEMORY_FRACTION
from ptycho.reconstruction.schedule import Schedule
from ptycho.workflow.damage import check_fields
from ptycho.workflow.files import ContractError, StrPath
from ptycho.workflow.job import CpuClock

MAX_COUNT = 100_000
"""Largest number of iterations or pixels in a card: no model has as many, and a damaged card could name any."""


class Model(Protocol):
    """A trained model of any method."""

    @property
    def chosen(self) -> dict[str, float]:
        """Numbers that the method has chosen in training, for the reconstruction's `chosen`."""
        ...

    def refined(self, probe: NDArray[np.complexfloating]) -> Refined | None:
        """Return what the model uses in place of what is told of a scan; None: what is told.

        Parameters
        ----------
        probe : (modes, N, N) complex
            Illumination of the scan as it is told [sqrt(photon)].
        """
        ...

    def reconstruct(self, counts: Counts, probe: NDArray[np.complexfloating]) -> Reconstruction:
        """Reconstruct exposures on one canvas.

        Parameters
        ----------
        counts : Counts
            Exposures to reconstruct: a group of any size.
        probe : (modes, N, N) complex
            Illumination of the scan as it is told [sqrt(photon)].

        Raises
        ------
        ValueError
            If the network was trained on patterns of another size.
        """
        ...


def load_model(path: StrPath, device: str = "auto", device_memory: float = MEMORY_FRACTION) -> Model:
    """Load the trained model of a method: network and what its card says is around it.

    Parameters
    ----------
    path : path
        Saved model.
    device : {"auto", "cpu", "gpu"}
        Where the optimization of an unrolled model is computed; TensorFlow chooses its own.
    device_memory : float
        Fraction of a GPU's free memory that may be in use when exposures are kept there, see the same.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If the file is not a saved model, its card describes none that this version knows, or card, probe and network do
        not belong together.
    """
    card = read_card(path)
    kinds: dict[str, tuple[Any, Any]] = {"schedule": (UnrolledModel, Schedule), "estimator": (CanvasModel, Estimator)}
    for key, (model, options) in kinds.items():
        if key in card:
            check_fields(card, f"{path}: its card", **{key: dict})
            try:
                described = options(**card[key])
            except (TypeError, ValueError) as error:
                raise ContractError(f"{path}: a model of another version of ptycho ({error}): train it again") from None
            _check_options(f"{path}: '{key}' of its card", described)
            _check_probe(path, card, described)
            network = load_network(path)
            _check_network(path, network, described.n_features)
            if key == "schedule":
                return model(network, described, device=device, device_memory=device_memory)
            return model(network, described, read_probe(path) if _probe_trained(path, card) else None)
    raise ContractError(f"{path}: a network of one pattern at a time (ptycho 0.2 or older): train it again")


def _probe_trained(path: StrPath, card: dict[str, Any]) -> bool:
    """Whether the probe beside a card was trained with the network, which is used with no other."""
    if PROBE_TRAINED not in card:
        return False
    check_fields(card, f"{path}: its card", **{PROBE_TRAINED: bool})
    return bool(card[PROBE_TRAINED])


def _check_options(where: str, options: Schedule | Estimator) -> None:
    """Refuse options of other types, numbers that are not finite, and more work than any model takes."""
    values = options.as_dict()
    check_fields(values, where, **get_type_hints(type(options)))
    for name, value in values.items():
        if value < 0 or (isinstance(value, int) and value > MAX_COUNT):
            raise ContractError(f"{where}: '{name}' is {value}; wanted 0 to {MAX_COUNT}")


def _check_probe(path: StrPath, card: dict[str, Any], options: Schedule | Estimator) -> None:
    """Refuse a card that says two things, or another size of the patterns than that of the probe beside it."""
    for name in ("n_pixels", "transmittance"):
        if card[name] != (value := getattr(options, name)):
            raise ContractError(f"{path}: its card says '{name}' twice, {card[name]} and {value}; wanted the same")
    size = read_probe(path).shape[-1]
    if size != options.n_pixels:
        raise ContractError(
            f"{path}: its card is of patterns of {options.n_pixels} px, its probe has {size} px; wanted the same"
        )


def _check_network(path: StrPath, network: keras.Model, n_features: int) -> None:
    """Refuse a network that takes or returns anything but what its card describes."""
    wanted = {"input": n_features, "output": 2}
    for side, channels in wanted.items():
        shapes = [tuple(tensor.shape) for tensor in getattr(network, f"{side}s", None) or ()]
        if shapes != [(None, None, None, channels)]:
            raise ContractError(
                f"{path}: its network has the {side} {shapes}; its card describes one canvas of {channels} channels"
            )


def probe_warning(path: StrPath, probe: NDArray[np.complexfloating], tolerance: float = 0.01) -> str | None:
    """Return a warning if a probe is not that of a model's training; else None.

    A probe with another shape or other photons is not refused, since no probe is known exactly. The error of the object
    is about that of the probe. Where the model's probe was trained, it is used in place of the data's, and only the
    photons are compared.

    What a detector sees of incoherent modes depends on their density matrix ρ = Σ P_m P_m* alone: any unitary mixture
    of them is the same probe (Thibault and Menzel, Nature 494, 68, 2013). So probes are compared by the fidelity of
    their density matrices, ‖√ρ √σ‖₁, which is the largest |<P, Q>| over all mixtures (Jozsa, J. Mod. Opt. 41, 2315,
    1994).

    Parameters
    ----------
    path : path
        Saved model.
    probe : (modes, N, N) complex
        Probe of the data [sqrt(photon)].
    tolerance : float
        Largest 1 - ‖√ρ √σ‖₁ / (‖P‖ ‖Q‖) without a warning, and largest relative difference of the photons.

    Raises
    ------
    ptycho.workflow.files.ContractError
        If the patterns have another size, or the file has no probe.
    """
    trained, probe = (as_modes(each).astype(np.complex128) for each in (read_probe(path), probe))
    if trained.shape[-1] != probe.shape[-1]:
        raise ContractError(f"{path}: trained on patterns of {trained.shape[-1]} px; these have {probe.shape[-1]} px")
    start = f"{path}: the data's probe is not the one of the training: "
    trained_photons, photons = (float(np.sum(np.abs(each) ** 2)) for each in (trained, probe))
    products = np.einsum("mij,nij->mn", trained.conj(), probe)
    fidelity = float(np.linalg.norm(products, "nuc") / np.sqrt(max(trained_photons * photons, 1e-300)))
    differences = []
    if 1 - fidelity > tolerance and not _probe_trained(path, read_card(path)):
        counts = f"{len(probe)} modes, not {len(trained)}, " if len(probe) != len(trained) else ""
        differences.append(f"another shape ({counts}correlation {fidelity:.3f})")
    if not abs(photons / max(trained_photons, 1e-300) - 1) <= tolerance:
        differences.append(f"{photons:.4g} photons, not {trained_photons:.4g}")
    return start + " and ".join(differences) if differences else None


def reconstruct_tiles(
    model: Model,
    container: PtychoDataContainer,
    tiles: Sequence[Tile],
    chosen: range,
    batch_size: int,
) -> Iterator[Canvas]:
    """Reconstruct tiles one by one; synchronize their canvases when they are merged.

    Parameters
    ----------
    model : Model
        Trained model.
    container : PtychoDataContainer
        Its groups are the tiles, see `ptycho.loader.open_tiles`.
    tiles : sequence of Tile
        All tiles of the view.
    chosen : range
        Indices of the tiles to reconstruct; may be empty.
    batch_size : int
        Exposures that are read and computed at once; results do not depend on it.

    Yields
    ------
    Canvas
        The tile's object, weighted by its illumination and by the distance from the core.
    """
    for number in tqdm(chosen, desc="tiles", unit="tile"):
        part = model.reconstruct(Counts.of_group(container, number, batch_size), container.probe_array)
        yield canvas_of(tiles[number], part.object, part.illumination, part.origin_px)


def reconstruct_in_chunks(
    model: Model,
    container: PtychoDataContainer,
    tiles: Sequence[Tile],
    chunk_size: int,
    batch_size: int,
    folder: StrPath | None = None,
) -> Reconstruction:
    """Reconstruct all tiles in chunks: what the rules of the workflow do, in one process.

    Parameters
    ----------
    model, container, tiles, batch_size
        As for `reconstruct_tiles`.
    chunk_size : int
        Tiles with a progress bar of their own.
    folder : path, optional
        Folder for the canvas in files; default: in memory.

    Returns
    -------
    Reconstruction
        Object over the bounding box of all windows; it does not depend on the sizes of chunks and batches.
    """
    positions = [container.positions(number) for number in range(len(container))]
    x, y = (np.concatenate(axis) for axis in zip(*positions, strict=True))
    clock, whole = CpuClock(), Canvas.around(x, y, container.n_pixels, folder)
    for block in blocks(len(container), chunk_size):
        for canvas in reconstruct_tiles(model, container, tiles, range(len(container))[block], batch_size):
            whole.include(canvas)
    return Reconstruction(
        object=whole.mean(),
        illumination=whole.weight,
        origin_px=whole.origin_px,
        refined=model.refined(container.probe_array),
        cpu_s=clock.seconds,
        chosen=model.chosen,
    )
