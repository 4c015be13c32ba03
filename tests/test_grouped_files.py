"""Grouped files: a container's own fields in an NPZ, opened lazily as a scan and its view."""

import numpy as np
import pytest

from ptycho.data.grouped_files import open_grouped, open_test_data
from ptycho.data.views import FIT, HOLDOUT, VALIDATION
from ptycho.loader import open_groups, open_tiles
from ptycho.scoring.region import shared_region
from ptycho.workflow.files import ContractError
from tests.conftest import view_of


def fields_of(container):
    """A container's own fields, as people save them."""
    names = ("X", "Y_I", "Y_phi", "coords_nominal", "YY_full", "global_offsets", "local_offsets", "nn_indices")
    return {key: np.asarray(getattr(container, key)) for key in names} | {"probeGuess": container.probe_array}


@pytest.fixture(scope="module")
def grouped(scan, tmp_path_factory):
    container = open_groups(scan, view_of(scan))
    path = tmp_path_factory.mktemp("grouped") / "groups.npz"
    np.savez(path, **fields_of(container))
    return path, container


def test_a_grouped_file_gives_the_same_container(grouped):
    path, container = grouped
    again = open_groups(*open_grouped(path))
    assert len(again) == len(container)
    some = np.s_[3:9]
    for name in ("frames", "offsets", "_Y_I_np"):
        np.testing.assert_allclose(getattr(again, name)[some], getattr(container, name)[some], atol=1e-6)
    np.testing.assert_array_equal(again.global_offsets, container.global_offsets)


def test_frames_are_read_when_they_are_asked_for(grouped, monkeypatch):
    path, container = grouped
    scan, view = open_grouped(path)
    read = []
    original = type(scan.diffraction.groups).__getitem__
    monkeypatch.setattr(
        type(scan.diffraction.groups), "__getitem__", lambda self, index: (read.append(index), original(self, index))[1]
    )
    again = open_groups(scan, view)
    assert not read
    again.frames[2:4]
    assert [index.tolist() for index in read] == [[2, 3]]
    assert scan.diffraction[5:7].shape == (2, 64, 64)
    np.testing.assert_array_equal(scan.diffraction[6], container.frames[1:2][0, :, :, 2])


def test_a_bit_that_flips_in_the_true_patches_is_refused(grouped, tmp_path):
    with np.load(grouped[0]) as arrays:
        fields = {key: arrays[key] for key in arrays.files if key != "YY_full"}
    path = tmp_path / "patches.npz"
    np.savez(path, **fields)
    content = bytearray(path.read_bytes())
    content[content.index(fields["Y_phi"].tobytes()) + 5000] ^= 1
    path.write_bytes(content)
    with pytest.raises(ContractError, match=r"patches\.npz: 'Y_phi.npy' cannot be read: cut short or damaged"):
        open_grouped(path)


def test_without_the_object_its_patches_are_averaged(grouped, tmp_path, scan):
    path, _ = grouped
    with np.load(path) as arrays:
        fields = {key: arrays[key] for key in arrays.files if key != "YY_full"}
    np.savez(tmp_path / "patches.npz", **fields)
    opened, view = open_grouped(tmp_path / "patches.npz")
    region = shared_region(opened, [view])
    truth = opened.object[region.y0 : region.y1, region.x0 : region.x1]
    original = open_grouped(path)[0]
    top = round(float(original.ycoords[0] - opened.ycoords[0]))
    left = round(float(original.xcoords[0] - opened.xcoords[0]))
    whole = scan.object[region.y0 + top : region.y1 + top, region.x0 + left : region.x1 + left]
    np.testing.assert_allclose(truth, whole, atol=1e-5)


def test_the_groups_of_a_file_are_its_tiles(grouped):
    path, container = grouped
    scan, view, tiles = open_test_data(path, n_groups=None, tile_px=20, halo_px=None, seed=0)
    opened = open_tiles(scan, tiles)
    np.testing.assert_array_equal(opened.nn_indices, view.nn_indices)
    np.testing.assert_allclose(opened.frames[3:9], container.frames[3:9])
    assert all((tile.weight((3, 4), (0, 0)) == 1).all() for tile in tiles)


def test_the_first_groups_of_a_file_are_opened(grouped):
    scan, view, tiles = open_test_data(grouped[0], n_groups=5, tile_px=20, halo_px=None, seed=0)
    assert len(open_groups(scan, view)) == len(open_tiles(scan, tiles)) == 5
    assert view.exposures.tolist() == list(range(20))
    assert len(open_test_data(grouped[0], n_groups=None, tile_px=20, halo_px=None, seed=0)[2]) == len(grouped[1])


def test_the_first_tiles_of_a_scan_are_opened_with_the_holdout_exposures_in_their_cores(scan):
    options = {"tile_px": 20, "halo_px": 9, "seed": 0}
    _, whole, all_tiles = open_test_data(scan.path, n_groups=None, **options)
    _, part, tiles = open_test_data(scan.path, n_groups=3, **options)
    assert [tile.core for tile in tiles] == [tile.core for tile in all_tiles[:3]]
    assert whole.exposures.tolist() == list(range(len(scan)))
    used = np.unique(np.concatenate([tile.exposures for tile in tiles]))
    assert part.of_role(FIT, VALIDATION).tolist() == used.tolist()
    held = whole.of_role(HOLDOUT)
    inside = [any(tile.has_in_core(scan.xcoords[[i]], scan.ycoords[[i]])[0] for tile in tiles) for i in held]
    assert part.of_role(HOLDOUT).tolist() == held[inside].tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": None}, "no key"),
        ({"global_offsets": None}, "no key 'global_offsets'"),
        ({"X": np.zeros((24, 64, 4), np.float32)}, r"'X' is float32 with shape .*wanted numbers, \(B, N, N, C\)"),
        ({"local_offsets": np.zeros((26, 1, 2, 3))}, r"'local_offsets' has shape .*wanted \(26, 1, 2, 4\)"),
        ({"local_offsets": np.zeros((26, 1, 2, 4), "V8")}, r"'local_offsets', \|V8, holds something else than pixels"),
        ({"global_offsets": np.full((26, 1, 2, 1), -(2**63))}, "'global_offsets', int64, holds something else"),
    ],
)
def test_a_malformed_grouped_file_is_refused_with_what_is_wanted(grouped, tmp_path, change, message):
    with np.load(grouped[0]) as arrays:
        fields = {key: array for key, array in ({**arrays} | change).items() if array is not None}
    np.savez(tmp_path / "wrong.npz", **fields)
    with pytest.raises(ContractError, match=message):
        open_grouped(tmp_path / "wrong.npz")
