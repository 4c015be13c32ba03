"""Tiles of large scans: their exposures, their weights, and one object of all of them."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from ptycho.data.canvas import Canvas, merge
from ptycho.data.chunks import chunk_bounds
from ptycho.data.tiles import (
    WHOLE_PLANE,
    Tile,
    TilingOptions,
    borders_of,
    canvas_of,
    cut_tiles,
    cut_view,
    fullest,
    halo_warning,
    load_tiles,
    redundancy,
    save_tiles,
    single_tiles,
    tile_numbers,
)
from ptycho.data.views import FIT, VALIDATION
from ptycho.workflow.files import ContractError
from tests.conftest import view_of

N = 16


def positions(seed=0, count=300):
    rng = np.random.default_rng(seed)
    return rng.uniform(8, 90, count), rng.uniform(8, 190, count)


def cut_out(obj, tile, x, y):
    """The object in the box around a tile's windows, and where that begins."""
    box = Canvas.around(x[tile.exposures], y[tile.exposures], N)
    (top, left), (height, width) = box.origin_px, box.weight.shape
    return obj[top : top + height, left : left + width], box.origin_px


def random_object(shape, rng):
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


def test_every_exposure_is_in_one_core_and_halos_have_their_width():
    x, y = positions()
    tiles = cut_tiles(x, y, 50, 12)
    assert len(tiles) == 4 * 2  # 182 px high, 82 px wide
    cores = np.zeros(len(x), int)
    for tile in tiles:
        (top, bottom), (left, right) = tile.core
        inside = (y >= top) & (y < bottom) & (x >= left) & (x < right)
        cores += inside
        near = (y >= top - 12) & (y < bottom + 12) & (x >= left - 12) & (x < right + 12)
        np.testing.assert_array_equal(tile.exposures, np.flatnonzero(near))
    assert (cores == 1).all()


def test_tiles_of_some_exposures_have_the_indices_of_the_scan():
    x, y = positions()
    used, scan = np.arange(0, len(x), 3), SimpleNamespace(xcoords=x, ycoords=y, n_pixels=64)
    whole = cut_tiles(x[used], y[used], 50, 12)
    tiles = cut_view(scan, used, TilingOptions(tile_px=50, halo_px=12))
    assert [tile.core for tile in tiles] == [tile.core for tile in whole]
    cores = np.concatenate([tile.exposures[tile.has_in_core(x[tile.exposures], y[tile.exposures])] for tile in tiles])
    assert sorted(cores) == used.tolist()  # each in the core of one
    for tile, part in zip(tiles, whole, strict=True):
        np.testing.assert_array_equal(tile.exposures, used[part.exposures])


@pytest.mark.parametrize(("halo_px", "wanted"), [(None, 64), (0, 0), (7.5, 7.5)])
def test_the_halo_is_as_wide_as_a_pattern_unless_it_is_given(halo_px, wanted):
    x, y = positions()
    scan = SimpleNamespace(xcoords=x, ycoords=y, n_pixels=64)
    tiles = cut_view(scan, np.arange(len(x)), TilingOptions(tile_px=50, halo_px=halo_px))
    assert {tile.halo_px for tile in tiles} == {wanted}


def test_tiles_of_a_view_cover_what_is_not_holdout_and_do_not_depend_on_its_groups(scan):
    view, options = view_of(scan), TilingOptions(tile_px=20, halo_px=9)
    used = view.of_role(FIT, VALIDATION)
    tiles = cut_view(scan, used, options)
    x, y = scan.xcoords, scan.ycoords
    assert len(tiles) > 1
    cores = [tile.exposures[tile.has_in_core(x[tile.exposures], y[tile.exposures])] for tile in tiles]
    assert sorted(np.concatenate(cores)) == used.tolist()
    assert all(set(tile.exposures) <= set(used) for tile in tiles)
    other = cut_view(scan, view_of(scan, n_groups=7).of_role(FIT, VALIDATION), options)
    assert [tile.exposures.tolist() for tile in other] == [tile.exposures.tolist() for tile in tiles]


@pytest.mark.parametrize("size", [50, 500])
def test_saved_tiles_are_loaded_as_they_were(size, tmp_path):
    tiles = cut_tiles(*positions(), size, 12)
    save_tiles(tmp_path / "tiles.npz", tiles, halo="wide")
    again = load_tiles(tmp_path / "tiles.npz")
    assert [(tile.core, tile.halo_px) for tile in again] == [(tile.core, tile.halo_px) for tile in tiles]
    for tile, copy in zip(tiles, again, strict=True):
        np.testing.assert_array_equal(copy.exposures, tile.exposures)
    numbers = json.loads((tmp_path / "tiles.json").read_text(encoding="utf-8"))
    assert numbers == {**tile_numbers(tiles), "halo": "wide"}


def test_a_file_without_tiles_is_refused(tmp_path):
    np.savez(tmp_path / "view.npz", exposures=np.arange(3))
    with pytest.raises(ContractError, match=r"view\.npz: no key 'starts'"):
        load_tiles(tmp_path / "view.npz")


@pytest.mark.parametrize(("halo_px", "n", "warned"), [(31.9, 64, True), (32, 64, False), (32, 65, True), (0, 64, True)])
def test_a_halo_narrower_than_half_a_pattern_is_warned_of(halo_px, n, warned):
    warning = halo_warning(cut_tiles(*positions(), 50, halo_px), n)
    assert (warning is not None) == warned
    if warned:
        assert warning.startswith(
            f"the halo of the tiles, {halo_px:g} px, is narrower than half a pattern, N/2 = {n / 2:g}"
        )


def test_a_pixel_of_a_core_lacks_exposures_only_with_a_halo_that_is_warned_of():
    """The exposures that illuminate a pixel of a core are all in its tile, up to a halo of N/2."""
    x, y = positions()

    def missing(halo_px):
        lacking = 0
        for tile in cut_tiles(x, y, 50, halo_px):
            (top, bottom), (left, right) = tile.core
            lit = (y + N / 2 > top) & (y - N / 2 < bottom) & (x + N / 2 > left) & (x - N / 2 < right)
            lacking += len(np.setdiff1d(np.flatnonzero(lit), tile.exposures))
        return lacking

    assert missing(N / 2) == 0
    assert missing(N / 2 - 3) > 0


def test_tiles_without_a_seam_are_not_warned_of():
    assert halo_warning(cut_tiles(*positions(), 500, 0), 64) is None
    assert halo_warning(single_tiles(np.arange(3)), 64) is None


def test_redundancy_is_how_often_an_exposure_is_reconstructed():
    halves = [Tile(np.arange(4), WHOLE_PLANE, 0.0), Tile(np.arange(2, 6), WHOLE_PLANE, 0.0)]
    assert redundancy(halves) == 8 / 6
    assert redundancy(halves[:1]) == 1
    assert tile_numbers(halves) == {"tiles": 2, "largest_tile": 4, "redundancy": 8 / 6}


def test_borders_are_where_cores_meet():
    x, y = np.array([0.0, 90, 0, 90]), np.array([0.0, 0, 40, 40])
    assert borders_of(cut_tiles(x, y, 50, 0)) == ([], [45.0])
    assert borders_of([Tile(np.arange(4), WHOLE_PLANE, 0.0)]) == ([], [])


def test_a_tile_of_the_whole_plane_has_the_weight_one_everywhere():
    assert (Tile(np.arange(4), WHOLE_PLANE, 0.0).weight((5, 4), (-2, 3)) == 1).all()


def test_a_small_scan_is_one_tile_of_weight_one():
    x, y = positions()
    (tile,) = cut_tiles(x, y, 500, 12)
    assert len(tile.exposures) == len(x)
    assert (tile.weight((30, 20), (0, 0)) == 1).all()


def test_weights_fall_across_the_halo_by_hand():
    x, y = np.zeros(101), np.arange(101.0)
    upper, lower = cut_tiles(x, y, 50, 10)
    weight = upper.weight((101, 1), (0, 0))[:, 0]
    np.testing.assert_allclose(weight[[0, 50, 55, 60, 70]], [1, 1, 0.5, 0, 0])
    weight = lower.weight((101, 1), (0, 0))[:, 0]
    np.testing.assert_allclose(weight[[30, 40, 45, 50, 100]], [0, 0, 0.5, 1, 1])


def test_true_tiles_give_the_object_back_in_any_chunks_and_order():
    x, y = positions()
    obj = random_object((220, 120), np.random.default_rng(1))
    tiles = cut_tiles(x, y, 50, 20)

    def sum_of(some):
        if not some:
            return Canvas.empty((0, 0), (0, 0))
        exposures = np.unique(np.concatenate([tile.exposures for tile in some]))
        canvas = Canvas.around(x[exposures], y[exposures], N)
        for tile in some:
            part, origin = cut_out(obj, tile, x, y)
            canvas.include(canvas_of(tile, part, np.ones(part.shape), origin))
        return canvas

    whole = sum_of(tiles)
    top, left = whole.origin_px
    lit = whole.weight > 1e-3
    truth = obj[top : top + lit.shape[0], left : left + lit.shape[1]]
    assert lit.mean() > 0.95
    np.testing.assert_allclose(whole.mean()[lit], truth[lit], rtol=1e-5)
    for chunks in (2, 7, 20):
        bounds = [chunk_bounds(len(tiles), i, chunks) for i in range(chunks)]
        parts = [sum_of(tiles[start:stop]) for start, stop in bounds][::-1]
        merged = merge([lambda part=part: part for part in parts])
        assert merged.origin_px == whole.origin_px
        np.testing.assert_allclose(merged.total, whole.total, atol=1e-12)


@pytest.mark.parametrize("size", [20, 35, 1000])
def test_no_tile_is_empty(size):
    x, y = np.array([0.0, 1, 2, 300, 301]), np.array([0.0, 1, 2, 300, 301])
    tiles = cut_tiles(x, y, size, 0)
    assert all(len(tile.exposures) for tile in tiles)
    assert sum(len(tile.exposures) for tile in tiles) == 5


def test_the_fullest_tile_has_the_most_exposures():
    x, y = np.concatenate([np.arange(5.0), 100 + np.arange(9.0)]), np.zeros(14)
    tiles = cut_tiles(x, y, 60, 0)
    assert [len(tile.exposures) for tile in tiles] == [5, 9]
    assert fullest(tiles) == 1


def test_tiles_of_a_scan_with_two_arms_get_one_phase():
    """A U: its arms meet only at the foot, which is cut last."""
    y, x = (axis.ravel() + 20.0 for axis in np.mgrid[:150:5, :150:5])
    arms = (y > 120) | (x < 55) | (x > 125)
    y, x = y[arms], x[arms]
    rng = np.random.default_rng(1)
    obj = random_object((190, 190), rng)
    canvas = Canvas.around(x, y, N)
    tiles = cut_tiles(x, y, 50, 12)
    assert len(tiles) == 7
    for tile in tiles:
        part, origin = cut_out(obj, tile, x, y)
        part = part * np.exp(1j * rng.uniform(-3, 3))
        canvas.include(canvas_of(tile, part, np.ones(part.shape), origin))
    top, left = canvas.origin_px
    lit = canvas.weight > 1e-3
    truth, mean = obj[top : top + lit.shape[0], left : left + lit.shape[1]][lit], canvas.mean()[lit]
    factor = np.vdot(mean, truth) / abs(np.vdot(mean, truth))
    np.testing.assert_allclose(factor * mean, truth, atol=1e-4)
