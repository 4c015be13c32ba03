"""PtychoDataContainer: groups of exposures as array-likes, tensors on demand, batches as a stream.

A file-backed container never holds the grouped frames: `_X_np` gathers them from the scan's memory map when sliced.
"""

import itertools
from dataclasses import dataclass

import numpy as np

from ptycho.backend import tensorflow
from ptycho.data.scan import Scan
from ptycho.data.views import View
from ptycho.physics.forward import split_position
from ptycho.physics.probes import first_mode


@dataclass(frozen=True)
class GroupedArray:
    """(B, N, N, C) frames of groups, gathered when indexed: shape, dtype, len, `[slice or index array]`.

    Parameters
    ----------
    gather : callable
        Takes an int64 array of exposures, returns their (m, N, N) frames.
    nn_indices : (B, C) int64
        Exposures of each group.
    n_pixels : int
        N.
    dtype : dtype
        Of the frames.
    """

    gather: object
    nn_indices: np.ndarray
    n_pixels: int
    dtype: np.dtype

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(B, N, N, C)."""
        count, channels = self.nn_indices.shape
        return count, self.n_pixels, self.n_pixels, channels

    ndim = 4

    def __len__(self) -> int:
        return len(self.nn_indices)

    def __getitem__(self, index):
        """Gather groups; every exposure that they share is read once."""
        indices = self.nn_indices[index]
        exposures, place = np.unique(indices, return_inverse=True)
        frames = self.gather(exposures)[place.reshape(indices.shape)]
        return np.ascontiguousarray(np.moveaxis(frames, -3, -1), dtype=self.dtype)

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self[:], dtype=dtype)


@dataclass(frozen=True)
class _Mapped:
    """An array-like with a function applied to what is read from it."""

    source: object
    function: object
    dtype: np.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index):
        return self.function(self.source[index]).astype(self.dtype)

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self[:], dtype=dtype)


def _host(array):
    """Keep array-likes as they are; bring tensors to NumPy."""
    return array.numpy() if hasattr(array, "numpy") else array


class PtychoDataContainer:
    """Groups of exposures with what is known about them. Making one allocates no tensor and reads no frame.

    Parameters
    ----------
    X : (B, N, N, C) float32 array-like
        Diffraction amplitudes, sqrt(counts).
    Y_I, Y_phi : (B, N, N, C) float32 array-like or None
        Amplitude and phase [rad] of the true patches; None where there is no truth.
    norm_Y_I : (B,) array-like
        Normalization of Y_I, stored as given.
    YY_full : (H, W) complex array-like or None
        The whole object, stored as given.
    coords_nominal, coords_true : (B, 1, 2, C)
        Positions in the group as they should be and as they are, order [x, y] [px].
    nn_indices : (B, ...) int
        Exposures of each group, stored as given.
    global_offsets, local_offsets : (B, 1, 2, 1 or C)
        Position of the group, and of its exposures from there, order [x, y] [px].
    probeGuess : (N, N) complex
        Probe [sqrt(photon)].

    Raises
    ------
    ValueError
        If the leading lengths differ.
    """

    def __init__(
        self,
        X,
        Y_I,
        Y_phi,
        norm_Y_I,
        YY_full,
        coords_nominal,
        coords_true,
        nn_indices,
        global_offsets,
        local_offsets,
        probeGuess,
    ):
        self._X_np, self._Y_I_np, self._Y_phi_np = _host(X), _host(Y_I), _host(Y_phi)
        self._coords_nominal_np, self._coords_true_np = _host(coords_nominal), _host(coords_true)
        self._probe_np = _host(probeGuess)
        self.norm_Y_I, self.YY_full, self.nn_indices = _host(norm_Y_I), _host(YY_full), _host(nn_indices)
        self.global_offsets, self.local_offsets = _host(global_offsets), _host(local_offsets)
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
    def frames(self):
        """(B, N, N, C) float32 array-like: the amplitudes, read when indexed."""
        return self._X_np

    @property
    def offsets(self):
        """(B, 1, 2, C) array-like: nominal positions in the group, order [x, y] [px]."""
        return self._coords_nominal_np

    @property
    def n_pixels(self) -> int:
        """N, side of a pattern."""
        return self._X_np.shape[1]

    @property
    def channels(self) -> int:
        """C, patterns in a group."""
        return self._X_np.shape[-1]

    @property
    def probe_array(self) -> np.ndarray:
        """(N, N) complex probe [sqrt(photon)], as NumPy."""
        return np.asarray(self._probe_np)

    def _tensor(self, array, dtype: str):
        tf = tensorflow()
        if array is None:
            raise ValueError("this container has no truth (Y_I and Y_phi are None)")
        return tf.convert_to_tensor(np.asarray(array), dtype=dtype)

    @property
    def X(self):
        """(B, N, N, C) float32 tensor."""
        return self._tensor(self._X_np, "float32")

    @property
    def Y_I(self):
        """(B, N, N, C) float32 tensor."""
        return self._tensor(self._Y_I_np, "float32")

    @property
    def Y_phi(self):
        """(B, N, N, C) float32 tensor [rad]."""
        return self._tensor(self._Y_phi_np, "float32")

    @property
    def Y(self):
        """(B, N, N, C) complex64 tensor, Y_I exp(i Y_phi)."""
        tf = tensorflow()
        return tf.complex(self.Y_I * tf.cos(self.Y_phi), self.Y_I * tf.sin(self.Y_phi))

    @property
    def coords_nominal(self):
        """(B, 1, 2, C) float32 tensor, order [x, y] [px]."""
        return self._tensor(self._coords_nominal_np, "float32")

    coords = coords_nominal

    @property
    def coords_true(self):
        """(B, 1, 2, C) float32 tensor, order [x, y] [px]."""
        return self._tensor(self._coords_true_np, "float32")

    @property
    def probe(self):
        """(N, N) complex64 tensor [sqrt(photon)]."""
        return self._tensor(self._probe_np, "complex64")

    def batch(self, index, targets: str = "diffraction"):
        """Inputs and targets of some groups, as NumPy; what `as_tf_dataset` streams."""
        x = np.asarray(self._X_np[index], np.float32)
        inputs = {"diffraction": x, "positions": np.asarray(self._coords_nominal_np[index], np.float32)}
        if targets == "diffraction":
            return inputs, x
        if not self.has_truth:
            raise ValueError("targets 'object' need a truth, but this container has none (Y_I and Y_phi are None)")
        amplitude, phase = np.asarray(self._Y_I_np[index], np.float32), np.asarray(self._Y_phi_np[index], np.float32)
        return inputs, np.concatenate([amplitude, phase], axis=-1)

    def as_tf_dataset(
        self, batch_size: int, *, shuffle=False, seed: int = 0, targets: str = "diffraction", groups=None, first_pass=0
    ):
        """Stream batches, each read when it is asked for: every group once a pass.

        Parameters
        ----------
        batch_size : int
            Groups in a batch; the last may be smaller.
        shuffle : bool
            A new order every pass; it depends on `seed` and the number of the pass alone.
        targets : {"diffraction", "object"}
            What to learn: the amplitudes themselves, (b, N, N, C), or the truth, amplitude and phase in (b, N, N, 2C).
        groups : (b,) int, optional
            Which groups; without, all.
        first_pass : int
            Number of the first pass: with it a training that was stopped goes on with the orders it would have had.

        Returns
        -------
        tf.data.Dataset
            Of ({"diffraction": (b, N, N, C), "positions": (b, 1, 2, C)}, targets), all float32.

        Raises
        ------
        ValueError
            If the truth is asked for and there is none.
        """
        tf = tensorflow()
        _, n, _, channels = self._X_np.shape
        if targets not in ("diffraction", "object"):
            raise ValueError(f"targets '{targets}'; wanted 'diffraction' or 'object'")
        if targets == "object" and not self.has_truth:
            raise ValueError("targets 'object' need a truth, but this container has none (Y_I and Y_phi are None)")
        groups = np.arange(len(self)) if groups is None else np.asarray(groups)
        passes = itertools.count(first_pass)

        def stream():
            number = next(passes)
            order = np.random.default_rng([seed, number]).permutation(groups) if shuffle else groups
            for start in range(0, len(order), batch_size):
                yield self.batch(order[start : start + batch_size], targets)

        frames = tf.TensorSpec((None, n, n, channels), tf.float32)
        last = channels if targets == "diffraction" else 2 * channels
        positions = tf.TensorSpec((None, 1, 2, channels), tf.float32)
        signature = ({"diffraction": frames, "positions": positions}, tf.TensorSpec((None, n, n, last), tf.float32))
        dataset = tf.data.Dataset.from_generator(stream, output_signature=signature)
        return dataset.apply(tf.data.experimental.assert_cardinality(-(-len(groups) // batch_size))).prefetch(2)


def group_offsets(xcoords, ycoords, nn_indices):
    """Positions of groups and of their exposures from there.

    Parameters
    ----------
    xcoords, ycoords : (M,) float64
        Patch centers [px].
    nn_indices : (B, C) int
        Exposures of each group.

    Returns
    -------
    global_offsets : (B, 1, 2, 1) float64
        The pixel nearest to the mean position, order [x, y]: whole pixels, so that sub-pixel rests stay what they are.
    local_offsets : (B, 1, 2, C) float64
        Position minus global offset, order [x, y] [px].
    """
    positions = np.stack([xcoords[nn_indices], ycoords[nn_indices]], axis=1)[:, None]
    center = split_position(positions.mean(axis=-1, keepdims=True))[0].astype(np.float64)
    return center, positions - center


def open_groups(scan: Scan, view: View) -> PtychoDataContainer:
    """Open a view of a scan as a container; no frame is read."""
    nn_indices = view.nn_indices
    global_offsets, local_offsets = group_offsets(scan.xcoords, scan.ycoords, nn_indices)
    coords = local_offsets.astype(np.float32)
    truth = GroupedArray(scan.patches, nn_indices, scan.n_pixels, np.dtype(np.complex64))
    return PtychoDataContainer(
        X=GroupedArray(scan.diffraction.__getitem__, nn_indices, scan.n_pixels, np.dtype(np.float32)),
        Y_I=_Mapped(truth, np.abs, np.dtype(np.float32)),
        Y_phi=_Mapped(truth, np.angle, np.dtype(np.float32)),
        norm_Y_I=np.ones(len(nn_indices), np.float32),
        YY_full=scan.object,
        coords_nominal=coords,
        coords_true=coords,
        nn_indices=nn_indices,
        global_offsets=global_offsets,
        local_offsets=local_offsets,
        probeGuess=first_mode(scan.probe),
    )
