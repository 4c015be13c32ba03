"""PtychoDataContainer: groups of exposures as lazy arrays, as tensors on demand, and as a stream of batches.

A file-backed container never holds the grouped frames: `_X_np` gathers them from the scan's file when indexed.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ptycho.backend import tensorflow
from ptycho.data.grouping import group_offsets
from ptycho.data.lazy import GroupedArray, LazyArray, TransformedArray
from ptycho.data.scan import Scan
from ptycho.data.tiles import Tile
from ptycho.data.views import View
from ptycho.physics.detector import PERFECT, Detector
from ptycho.physics.forward import as_modes
from ptycho.workflow.files import StrPath


def _to_numpy(array: Any) -> Any:
    """Convert a tensor to NumPy; return any other array-like unchanged."""
    return array.numpy() if hasattr(array, "numpy") else array


class PtychoDataContainer:
    """Groups of exposures and all that is known about them. Creating one allocates no tensor and reads no frame.

    Parameters
    ----------
    X : (B, N, N, C) float32 array-like
        Diffraction amplitudes, sqrt(counts).
    Y_I, Y_phi : (B, N, N, C) float32 array-like or None
        Amplitude and phase [rad] of the true patches; None without a truth.
    norm_Y_I : (B,) array-like
        Normalization of Y_I, stored as given.
    YY_full : (H, W) complex array-like or None
        The whole object, stored as given.
    coords_nominal, coords_true : (B, 1, 2, C)
        Intended and actual positions in the group, order [x, y] [px].
    nn_indices : (B, ...) int
        Exposures of each group, stored as given; -1 where a group has fewer than C.
    global_offsets, local_offsets : (B, 1, 2, 1 or C)
        Position of the group, and of its exposures relative to it, order [x, y] [px].
    probeGuess : (N, N) or (modes, N, N) complex
        Probe [sqrt(photon)], stored as given.
    detector : Detector
        What the detector does to the photons, and the flux of all exposures that `nn_indices` counts; default: nothing.
    source : path
        File of the frames, in messages; default: "the container".

    Raises
    ------
    ValueError
        If the arrays have different numbers of groups.
    """

    def __init__(  # noqa: PLR0913 - the signature is a contract
        self,
        X: LazyArray,
        Y_I: LazyArray | None,
        Y_phi: LazyArray | None,
        norm_Y_I: ArrayLike | None,
        YY_full: LazyArray | None,
        coords_nominal: LazyArray,
        coords_true: LazyArray | None,
        nn_indices: LazyArray | None,
        global_offsets: LazyArray | None,
        local_offsets: LazyArray | None,
        probeGuess: ArrayLike | None,
        detector: Detector = PERFECT,
        source: StrPath = "the container",
    ):
        self.detector, self.source = detector, source
        self._X_np, self._Y_I_np, self._Y_phi_np = _to_numpy(X), _to_numpy(Y_I), _to_numpy(Y_phi)
        self._coords_nominal_np, self._coords_true_np = _to_numpy(coords_nominal), _to_numpy(coords_true)
        self._probe_np = _to_numpy(probeGuess)
        self.norm_Y_I, self.YY_full, self.nn_indices = _to_numpy(norm_Y_I), _to_numpy(YY_full), _to_numpy(nn_indices)
        self.global_offsets, self.local_offsets = _to_numpy(global_offsets), _to_numpy(local_offsets)
        for name in ("_Y_I_np", "_Y_phi_np", "_coords_nominal_np", "_coords_true_np", "nn_indices"):
            other = getattr(self, name)
            if other is not None and len(other) != len(self._X_np):
                raise ValueError(
                    f"{len(self._X_np)} groups in X but {len(other)} in {name.strip('_').removesuffix('_np')}"
                )

    def __len__(self) -> int:
        return len(self._X_np)

    def __repr__(self) -> str:
        truth = "with" if self.has_truth else "without"
        return f"PtychoDataContainer({len(self)} groups of {self._X_np.shape[1:]}, {truth} truth)"

    @property
    def has_truth(self) -> bool:
        """Whether the true patches are known."""
        return self._Y_I_np is not None and self._Y_phi_np is not None

    @property
    def frames(self) -> LazyArray:
        """(B, N, N, C) float32 amplitudes, sqrt(counts), read when indexed."""
        return self._X_np

    @property
    def offsets(self) -> LazyArray:
        """(B, 1, 2, C) nominal positions in the group, order [x, y] [px]."""
        return self._coords_nominal_np

    @property
    def n_pixels(self) -> int:
        """N, side of a pattern [px]."""
        return self._X_np.shape[1]

    @property
    def channels(self) -> int:
        """C, patterns in a group."""
        return self._X_np.shape[-1]

    @property
    def probe_array(self) -> NDArray[np.complexfloating]:
        """(modes, N, N) complex probe [sqrt(photon)], as a NumPy array; a single mode, too."""
        return as_modes(self._probe_np)

    def members(self, group: int) -> NDArray[np.int64]:
        """Return the (m,) exposures of a group, m ≤ C: the first m of its frames and offsets are theirs.

        Raises
        ------
        ValueError
            If the container does not know the exposures.
        """
        if self.nn_indices is None:
            raise ValueError("this container does not know the exposures of its groups (nn_indices is None)")
        indices = np.asarray(self.nn_indices[group])
        return indices[indices >= 0]

    def positions(self, group: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return columns and rows of the patch centers of a group's (m,) exposures in the object plane [px]."""
        positions = np.asarray(self.global_offsets[group] + self.local_offsets[group], np.float64)[0]
        x, y = positions[:, : len(self.members(group))]
        return x, y

    def group_frames(self, group: int, which: NDArray[np.int64]) -> NDArray[np.float32]:
        """Read some of a group's frames.

        Parameters
        ----------
        group : int
            The group.
        which : (k,) int64
            Which of its exposures, from 0 on; only these are read from a file.

        Returns
        -------
        (k, N, N) float32
            Amplitudes, sqrt(counts).
        """
        if isinstance(self._X_np, GroupedArray):
            return self._X_np.gather(self.members(group)[which])
        return np.moveaxis(np.asarray(self._X_np[group], np.float32)[..., which], -1, 0)

    def _tensor(self, array: Any, dtype: str) -> Any:
        tf = tensorflow()
        if array is None:
            raise ValueError("this container has no truth (Y_I and Y_phi are None)")
        return tf.convert_to_tensor(np.asarray(array), dtype=dtype)

    @property
    def X(self) -> Any:
        """(B, N, N, C) float32 tensor of all amplitudes, sqrt(counts)."""
        return self._tensor(self._X_np, "float32")

    @property
    def Y_I(self) -> Any:
        """(B, N, N, C) float32 tensor of the true amplitudes."""
        return self._tensor(self._Y_I_np, "float32")

    @property
    def Y_phi(self) -> Any:
        """(B, N, N, C) float32 tensor of the true phases [rad]."""
        return self._tensor(self._Y_phi_np, "float32")

    @property
    def Y(self) -> Any:
        """(B, N, N, C) complex64 tensor of the true patches, Y_I exp(i Y_phi)."""
        tf = tensorflow()
        return tf.complex(self.Y_I * tf.cos(self.Y_phi), self.Y_I * tf.sin(self.Y_phi))

    @property
    def coords_nominal(self) -> Any:
        """(B, 1, 2, C) float32 tensor of intended positions in the group, order [x, y] [px]."""
        return self._tensor(self._coords_nominal_np, "float32")

    coords = coords_nominal

    @property
    def coords_true(self) -> Any:
        """(B, 1, 2, C) float32 tensor of actual positions in the group, order [x, y] [px]."""
        return self._tensor(self._coords_true_np, "float32")

    @property
    def probe(self) -> Any:
        """(N, N) or (modes, N, N) complex64 tensor [sqrt(photon)], as given."""
        return self._tensor(self._probe_np, "complex64")

    def as_tf_dataset(self, batch_size: int, *, shuffle: bool = False, seed: int = 0) -> Any:
        """Stream batches, each read on demand; every pass has every group once.

        Parameters
        ----------
        batch_size : int
            Groups in a batch; the last batch may be smaller.
        shuffle : bool
            Whether every pass has a new order, which depends only on `seed` and the number of the pass.
        seed : int
            Seed of the orders.

        Returns
        -------
        tf.data.Dataset
            Batches ({"diffraction": (b, N, N, C), "positions": (b, 1, 2, C)}, (b, N, N, C) measured amplitudes), all
            float32.
        """
        tf = tensorflow()
        n, channels = self.n_pixels, self.channels
        passes = itertools.count()

        def stream() -> Iterator[tuple[dict[str, NDArray[np.float32]], NDArray[np.float32]]]:
            number, order = next(passes), np.arange(len(self))
            if shuffle:
                order = np.random.default_rng([seed, number]).permutation(order)
            for start in range(0, len(order), batch_size):
                index = order[start : start + batch_size]
                amplitudes = np.asarray(self._X_np[index], np.float32)
                positions = np.asarray(self._coords_nominal_np[index], np.float32)
                yield {"diffraction": amplitudes, "positions": positions}, amplitudes

        frames = tf.TensorSpec((None, n, n, channels), tf.float32)
        signature = ({"diffraction": frames, "positions": tf.TensorSpec((None, 1, 2, channels), tf.float32)}, frames)
        dataset = tf.data.Dataset.from_generator(stream, output_signature=signature)
        return dataset.apply(tf.data.experimental.assert_cardinality(-(-len(self) // batch_size))).prefetch(2)


def open_groups(scan: Scan, view: View) -> PtychoDataContainer:
    """Open the groups of a view, to train on and to validate with, as a container; no frame is read."""
    return _open(scan, view.nn_indices)


def open_tiles(scan: Scan, tiles: Sequence[Tile]) -> PtychoDataContainer:
    """Open T tiles of a scan, to apply networks to, as a container of T groups; no frame is read.

    C is the size of the largest tile. Smaller ones end in frames of zeros at offset 0, and in -1 in `nn_indices`;
    `members` gives a tile's exposures. `local_offsets` are exact; `coords_nominal` are rounded to float32.
    """
    sizes = [len(tile.exposures) for tile in tiles]
    nn_indices = np.full((len(sizes), max(sizes, default=1)), -1, np.int64)
    for row, tile in zip(nn_indices, tiles, strict=True):
        row[: len(tile.exposures)] = tile.exposures
    return _open(scan, nn_indices)


def _open(scan: Scan, nn_indices: NDArray[np.int64]) -> PtychoDataContainer:
    global_offsets, local_offsets = group_offsets(scan.xcoords, scan.ycoords, nn_indices)
    coords = local_offsets.astype(np.float32)
    truth = GroupedArray(scan.patches, nn_indices, scan.n_pixels, np.dtype(np.complex64))
    return PtychoDataContainer(
        X=GroupedArray(scan.diffraction.__getitem__, nn_indices, scan.n_pixels, np.dtype(np.float32)),
        Y_I=TransformedArray(truth, np.abs, np.dtype(np.float32)),
        Y_phi=TransformedArray(truth, np.angle, np.dtype(np.float32)),
        norm_Y_I=np.ones(len(nn_indices), np.float32),
        YY_full=scan.object,
        coords_nominal=coords,
        coords_true=coords,
        nn_indices=nn_indices,
        global_offsets=global_offsets,
        local_offsets=local_offsets,
        probeGuess=scan.probe[0] if len(scan.probe) == 1 else scan.probe,
        detector=scan.detector,
        source=scan.path,
    )
