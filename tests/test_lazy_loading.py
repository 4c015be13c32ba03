"""The container: nothing is read or allocated before it is asked for, and lazily read data equal those in memory."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from ptycho import loader
from ptycho.data.grouping import group_offsets
from ptycho.data.lazy import GroupedArray
from ptycho.data.scan import ScanWriter, open_scan
from ptycho.data.tiles import TilingOptions, cut_view
from ptycho.data.views import FIT, VALIDATION, GroupingOptions, make_view, open_view, save_view, with_groups
from ptycho.loader import PtychoDataContainer, open_groups, open_tiles

N, COUNT = 16, 60
TILING = TilingOptions(tile_px=12, halo_px=5)
GROUPS = 90 + 1  # one more for the validation exposure


# fmt: off
class TestCompareModelsChunking:
    def test_container_numpy_slicing_for_chunked_inference(self):
        import numpy as np

        from ptycho.loader import PtychoDataContainer
        N, C, n_images = 64, 4, 500
        X = np.random.rand(n_images, N, N, C).astype(np.float32)
        Y_I = np.random.rand(n_images, N, N, C).astype(np.float32)
        Y_phi = np.random.rand(n_images, N, N, C).astype(np.float32)
        coords = np.random.rand(n_images, 1, 2, C).astype(np.float32)
        probe = np.random.rand(N, N).astype(np.complex64)
        container = PtychoDataContainer(
            X=X, Y_I=Y_I, Y_phi=Y_phi, norm_Y_I=np.ones(n_images), YY_full=None,
            coords_nominal=coords, coords_true=coords,
            nn_indices=np.zeros((n_images, 7), dtype=np.int32),
            global_offsets=coords, local_offsets=coords, probeGuess=probe,
        )
        assert hasattr(container, '_X_np')
        assert container._X_np.shape == (n_images, N, N, C)
        chunk_size = 100
        for i in range(0, n_images, chunk_size):
            assert container._X_np[i:i+chunk_size].shape[0] <= chunk_size
            assert container._coords_nominal_np[i:i+chunk_size].shape[0] <= chunk_size
        assert container.X.shape == (n_images, N, N, C)
# fmt: on


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lazy")
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:6, :10] * 4.0
    x, y = x.ravel() + 9 + rng.uniform(-1, 1, COUNT), y.ravel() + 9 + rng.uniform(-1, 1, COUNT)
    frames = rng.random((COUNT, N, N)).astype(np.float32)
    obj = (rng.random((40, 60)) * np.exp(1j * rng.uniform(-1, 1, (40, 60)))).astype(np.complex64)
    axis = np.arange(N) - N // 2
    probe = (10 * np.exp(-np.add.outer(axis**2, axis**2) / 18)).astype(np.complex64)
    fields = {"xcoords": x, "ycoords": y, "probeGuess": probe, "objectGuess": obj, "metadata": {"dose": 5}}
    with ScanWriter(folder / "scan.npz", COUNT, N, **fields) as scan:
        scan.write(frames)
    scan = open_scan(folder / "scan.npz")
    options = GroupingOptions(gridsize=2, neighbors=7, n_groups=90, max_spread=6, holdout_fraction=0.05)
    rng = np.random.default_rng(1)
    save_view(folder / "view.npz", with_groups(make_view(scan, 0.4, 0.05, rng), scan, options, rng))
    return scan, open_view(folder / "view.npz"), frames, obj


@pytest.fixture(scope="module")
def tiles(files):
    scan, view, *_ = files
    return cut_view(scan, view.of_role(FIT, VALIDATION), TILING)


def test_opening_groups_imports_no_framework_and_reads_no_frame(files):
    scan, view = files[0].path, files[0].path.with_name("view.npz")
    code = f"""
import sys
from ptycho.data.mapped import MappedArray
from ptycho.data.scan import open_scan
read = []
old = MappedArray.__getitem__
MappedArray.__getitem__ = lambda self, index: (read.append(self.shape), old(self, index))[1]
from ptycho.data.views import open_view
from ptycho.loader import open_groups
container = open_groups(open_scan({str(scan)!r}), open_view({str(view)!r}))
assert len(container) == {GROUPS}, len(container)
assert not [shape for shape in read if len(shape) == 3 and shape[0] == {COUNT}], read
print([name for name in ("tensorflow", "keras", "torch", "matplotlib") if name in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_lazy_equals_eager(files):
    scan, view, frames, obj = files
    container = open_groups(scan, view)
    eager = np.moveaxis(frames[view.nn_indices], 1, -1)
    assert isinstance(container.frames, GroupedArray)
    assert container.frames.shape == eager.shape
    np.testing.assert_array_equal(container.frames[:], eager)
    np.testing.assert_array_equal(container.frames[10:20], eager[10:20])
    np.testing.assert_array_equal(container.frames[np.array([5, 3, 5])], eager[[5, 3, 5]])
    np.testing.assert_array_equal(np.asarray(container.X), eager)
    group, member = 17, 2
    exposure = view.nn_indices[group, member]
    top, left = (int(np.floor(c[exposure] + 0.5)) - N // 2 for c in (scan.ycoords, scan.xcoords))
    truth = obj[top : top + N, left : left + N]
    np.testing.assert_allclose(np.asarray(container.Y[group, ..., member]), truth, rtol=1e-5)


def test_the_public_arrays_are_those_that_the_container_holds(files):
    container = open_groups(*files[:2])
    assert container.frames is container._X_np
    assert container.offsets is container._coords_nominal_np
    assert container._probe_np.shape == (N, N)  # as the contract has it
    assert isinstance(container.probe_array, np.ndarray)
    np.testing.assert_array_equal(container.probe_array, files[0].probe)
    assert (container.n_pixels, container.channels) == (N, 4)


def test_all_modes_of_the_probe_are_in_the_container(files):
    scan, view, *_ = files
    modes = np.concatenate([scan.probe, 0.5 * scan.probe])
    container = open_groups(replace(scan, probe=modes), view)
    np.testing.assert_array_equal(container.probe_array, modes)
    assert container.probe.shape == (2, N, N)


def test_tiles_have_their_own_frames_then_zeros(files, tiles):
    scan, _, frames, _ = files
    container = open_tiles(scan, tiles)
    sizes = [len(tile.exposures) for tile in tiles]
    assert len(set(sizes)) > 1  # some are padded
    assert container.frames.shape == (len(sizes), N, N, max(sizes))
    for number, (tile, size) in enumerate(zip(tiles, sizes, strict=True)):
        np.testing.assert_array_equal(container.members(number), tile.exposures)
        np.testing.assert_array_equal(container.frames[number][..., :size], np.moveaxis(frames[tile.exposures], 0, -1))
        assert not container.frames[number][..., size:].any()
        assert not container.local_offsets[number, ..., size:].any()
        positions = container.global_offsets[number, 0] + container.local_offsets[number, 0, :, :size]
        np.testing.assert_allclose(positions[0], scan.xcoords[tile.exposures], rtol=0, atol=1e-9)
        np.testing.assert_allclose(positions[1], scan.ycoords[tile.exposures], rtol=0, atol=1e-9)
        inside = abs(container.global_offsets[number, 0, :, 0] - positions.mean(axis=1))
        assert (inside <= 0.5).all()  # the mean of its own exposures, whatever the padding
    truth = np.asarray(container._Y_I_np)
    assert np.isfinite(truth).all()
    assert np.isfinite(np.asarray(container._Y_phi_np)).all()
    (inputs, _), *_ = container.as_tf_dataset(2)
    assert inputs["positions"].shape == (2, 1, 2, max(sizes))


def test_a_tile_reads_its_own_frames_once(files, tiles):
    scan = files[0]
    read = []

    def gather(exposures):
        read.append(exposures)
        return scan.diffraction[exposures]

    frames = replace(open_tiles(scan, tiles).frames, gather=gather)
    frames[1:2]
    np.testing.assert_array_equal(read.pop(), tiles[1].exposures)
    frames[0:2]
    np.testing.assert_array_equal(read.pop(), np.union1d(tiles[0].exposures, tiles[1].exposures))
    assert not read


@pytest.mark.parametrize("kind", ["groups", "tiles"])
def test_positions_and_frames_of_a_group_are_those_of_its_exposures(files, tiles, kind):
    """From a file, where only the frames that are wanted are read, and from arrays in memory; padding is left out."""
    scan, view, frames, _ = files
    opened = {"groups": lambda: open_groups(scan, view), "tiles": lambda: open_tiles(scan, tiles)}[kind]
    container, read = opened(), []

    def gather(exposures):
        read.append(exposures.tolist())
        return scan.diffraction[exposures]

    in_memory = opened()
    in_memory._X_np = np.asarray(in_memory._X_np[:])
    container._X_np = replace(container._X_np, gather=gather)
    for group in (0, 1, len(container) - 1):
        members = container.members(group)
        x, y = container.positions(group)
        np.testing.assert_allclose(x, scan.xcoords[members], rtol=0, atol=1e-9)
        np.testing.assert_allclose(y, scan.ycoords[members], rtol=0, atol=1e-9)
        for which in (np.arange(len(members)), np.array([2, 0])):
            read.clear()
            for source in (container, in_memory):
                amplitudes = source.group_frames(group, which)
                np.testing.assert_array_equal(amplitudes, frames[members[which]])
                assert amplitudes.dtype == np.float32
            assert read == [members[which].tolist()]


def test_a_container_without_indices_does_not_know_its_members(files):
    container = open_groups(*files[:2])
    np.testing.assert_array_equal(container.members(3), files[1].nn_indices[3])
    container.nn_indices = None
    with pytest.raises(ValueError, match="does not know the exposures"):
        container.members(3)


def test_tensors_come_from_the_backend(files, monkeypatch):
    """Which sets up the memory of GPUs before it hands TensorFlow out."""
    container, tensorflow, calls = open_groups(*files[:2]), loader.tensorflow, []
    monkeypatch.setattr(loader, "tensorflow", lambda: calls.append("tensorflow") or tensorflow())
    for make in (lambda: container.X, lambda: container.Y, lambda: container.as_tf_dataset(8)):
        calls.clear()
        make()
        assert calls


def test_offsets_are_whole_pixels_plus_positions(files):
    scan, view, *_ = files
    container = open_groups(scan, view)
    whole = container.global_offsets
    assert whole.shape == (GROUPS, 1, 2, 1)
    assert (whole == np.rint(whole)).all()
    positions = whole + container.local_offsets
    np.testing.assert_allclose(positions[:, 0, 0], scan.xcoords[view.nn_indices])  # order [x, y]
    np.testing.assert_allclose(positions[:, 0, 1], scan.ycoords[view.nn_indices])


def test_offsets_worked_out_by_hand():
    center, local = group_offsets(np.array([10.0, 13.5]), np.array([20.25, 20.0]), np.array([[0, 1], [0, -1]]))
    assert center.tolist() == [[[[12.0], [20.0]]], [[[10.0], [20.0]]]]
    assert local.tolist() == [[[[-2.0, 1.5], [0.25, 0.0]]], [[[0.0, 0.0], [0.25, 0.0]]]]


@pytest.mark.parametrize("shuffle", [False, True])
def test_the_stream_gives_every_group_once_with_its_own_data(files, shuffle):
    container = open_groups(*files[:2])
    dataset = container.as_tf_dataset(32, shuffle=shuffle, seed=1)
    batches = list(dataset)
    assert [len(target) for _, target in batches] == [32, 32, GROUPS - 64]
    assert int(dataset.cardinality()) == 3
    positions = np.concatenate([inputs["positions"] for inputs, _ in batches])
    frames = np.concatenate([inputs["diffraction"] for inputs, _ in batches])
    target = np.concatenate([target for _, target in batches])
    order = [int(np.flatnonzero((container.offsets == p).all((1, 2, 3)))[0]) for p in positions]
    assert sorted(order) == list(range(GROUPS))
    assert (order == list(range(GROUPS))) is not shuffle
    np.testing.assert_array_equal(frames, container.frames[np.array(order)])
    np.testing.assert_array_equal(target, frames)


def test_the_order_depends_on_seed_and_pass(files):
    container = open_groups(*files[:2])

    def passes(seed):
        dataset = container.as_tf_dataset(GROUPS, shuffle=True, seed=seed)
        return [next(iter(dataset))[1].numpy() for _ in range(2)]

    first, second = passes(0)
    again, _ = passes(0)
    other, _ = passes(1)
    np.testing.assert_array_equal(first, again)
    assert (first != second).any()
    assert (first != other).any()


def test_tensors_are_accepted_and_truth_may_be_missing(files):
    import tensorflow as tf

    container = open_groups(*files[:2])
    copy = PtychoDataContainer(
        container.X, None, None, None, None, container.coords, container.coords_true, container.nn_indices,
        container.global_offsets, container.local_offsets, container.probe,
    )  # fmt: skip
    assert isinstance(copy.frames, np.ndarray)
    assert isinstance(copy.X, tf.Tensor)
    assert "without truth" in repr(copy)
    with pytest.raises(ValueError, match="no truth"):
        _ = copy.Y
    with pytest.raises(ValueError, match=f"{GROUPS} groups in X but 3 in coords_nominal"):
        PtychoDataContainer(copy.X, None, None, None, None, np.zeros((3, 1, 2, 4)), None, None, None, None, None)
